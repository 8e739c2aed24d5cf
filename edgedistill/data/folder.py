"""Images in folders: one a class, or `train`, `validation` and `test` folders of such; or labelled by a `labels.csv`.

Every file is decoded once before anything is built on it, and what was found is remembered by the hash of its content.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.progress import Listener, Note, silent
from edgedistill.base.store import tool_version
from edgedistill.data.content import FileContent, Scan, known_verdicts, remember_verdicts
from edgedistill.data.fingerprint import labels_file
from edgedistill.data.images import BAD_FILE_ERRORS, CHECK_VERSION, find_fault, read_rgb
from edgedistill.data.labelling import Labelled, by_folders, by_table, is_image
from edgedistill.data.problems import data_error, some_of
from edgedistill.data.sources import Loaded, Pixels, ranges
from edgedistill.data.threads import in_threads, told_if_slow

_SPLITS: Final = {"": 0, "train": 0, "validation": 1, "test": 2}
"""Splits in the order of a data set's images. Without a name is what splits are drawn from."""


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Image files, decoded when asked for."""

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Pixels:
        path = self.paths[index]
        try:
            return read_rgb(Path(path))
        except BAD_FILE_ERRORS as error:
            raise InputError(
                f"{path} can no longer be read: {error}", fix="leave the data as it is while a build runs"
            ) from error

    @property
    def decoded(self) -> bool:
        return False


def load_folder(found: Scan, columns: tuple[str, str] = ("image", "label"), listener: Listener = silent) -> Loaded:
    """The images of a folder that was looked through, by split, class and path. With a `labels.csv` in the folder, that says
    what each is (see `by_table`, also for `columns`), else the folders do (see `by_folders`).

    `listener` hears of files with the same content and how far a long check is. Raises InputError for every file that is
    unreadable, damaged, of a wrong size, empty, no image, or without a label, and every class that has no training image.
    """
    problems = [Problem(path, fault, "check its permissions") for path, fault in sorted(found.tree.unreadable.items())]
    table = labels_file(found)
    images = (
        by_folders(found, problems, listener) if table is None else by_table(found, table, columns, problems, listener)
    )
    images.sort(key=lambda image: (_SPLITS[image.split], image.label, image.path))
    faults = _faults([image.path for image in images], found, listener)
    problems += [Problem(path, fault, "replace it or remove it") for path, fault in faults.items()]
    _tell_copies([image for image in images if image.path not in faults], found, listener)
    unlabelled = tuple(image.path for image in images if not image.label)
    images = [image for image in images if image.label]
    problems += _class_problems(found, images)
    if unlabelled:
        what = "have no label in the table: they are trained on, and the teacher alone labels them"
        listener(Note(f"{len(unlabelled)} images {what}"))
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise data_error(f"the images in {found.folder} have {count}", problems)
    classes = tuple(sorted({image.label for image in images}))
    number = {label: index for index, label in enumerate(classes)}
    sizes = Counter(image.split for image in images)
    indices = dict(zip(sizes, ranges(list(sizes.values())), strict=True))
    return Loaded(
        name=found.folder.name,
        classes=classes,
        labels=np.array([number[image.label] for image in images], dtype=np.int64),
        images=FolderImages(tuple(image.path for image in images)),
        train=next(iter(indices.values())),
        validation=indices.get("validation"),
        test=indices.get("test"),
        unlabelled=FolderImages(unlabelled) if unlabelled else None,
    )


def load_unlabelled(found: Scan, held_out: Collection[str], listener: Listener = silent) -> FolderImages:
    """All images in a folder that was looked through, at any depth, by path, but for those whose content (SHA-256) is in
    `held_out`. Raises InputError for every file that is unreadable or damaged, and where there is no image."""
    problems = [Problem(path, fault, "check its permissions") for path, fault in sorted(found.tree.unreadable.items())]
    paths = sorted(file.path for file in found.tree.files if is_image(file.path))
    faults = _faults(paths, found, listener)
    problems += [Problem(path, fault, "replace it or remove it") for path, fault in faults.items()]
    if not paths:
        problems.append(Problem(str(found.folder), "holds no images", "name the folder that does, or leave it out"))
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise data_error(f"the images in {found.folder} have {count}", problems)
    kept = [path for path in paths if found.contents[path].sha256 not in held_out]
    if len(kept) < len(paths):
        left = [found.relative(path) for path in paths if found.contents[path].sha256 in held_out]
        what = "are images of the validation or test split, and are not trained on"
        listener(Note(f"{len(left)} of the unlabelled images {what}: {some_of(left)}", warning=True))
    others = [found.relative(file.path) for file in found.tree.files if not is_image(file.path)]
    if others:
        listener(Note(f"{len(others)} files beside the unlabelled images are no images by name: {some_of(others)}"))
    return FolderImages(tuple(kept))


def _faults(paths: Sequence[str], found: Scan, listener: Listener) -> dict[str, str]:
    """Why files cannot be read or decoded, by path. Contents decoded before, by the same Pillow, are not decoded again."""
    contents = found.contents
    checker = f"image {CHECK_VERSION} pillow {tool_version('pillow')}"
    path_of = {contents[path].sha256: path for path in paths if not contents[path].fault}
    faults = known_verdicts(checker, path_of)
    unknown = [sha256 for sha256 in path_of if sha256 not in faults]
    files = [Path(path_of[sha256]) for sha256 in unknown]
    new: dict[str, str] = {}
    try:
        # Pillow decodes outside the interpreter's lock, so threads do it in parallel. What it warns of, too large an image,
        # is a fault of its own here.
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            told_if_slow(listener, "decode", found.folder.name, len(files)) as advance,
            closing(in_threads(find_fault, files, advance)) as results,
        ):
            new.update(zip(unknown, results, strict=True))
    finally:
        remember_verdicts(checker, new)
    faults |= new
    by_path = {path: _fault(contents[path], faults) for path in paths}
    return {path: fault for path, fault in by_path.items() if fault}


def _fault(content: FileContent, faults: Mapping[str, str]) -> str:
    return content.fault or faults[content.sha256]


def _tell_copies(sound: Sequence[Labelled], found: Scan, listener: Listener) -> None:
    """Warn of files with the content of an earlier one: of those in another class or another split by name, of others how
    many there are."""
    first: dict[str, Labelled] = {}
    in_class: list[str] = []
    in_split: list[str] = []
    same = 0
    for image in sound:
        original = first.setdefault(found.contents[image.path].sha256, image)
        if original is image:
            continue
        pair = f"{found.relative(image.path)} = {found.relative(original.path)}"
        if image.label != original.label:
            in_class.append(pair)
        elif image.split != original.split:
            in_split.append(pair)
        else:
            same += 1
    if in_class:
        what = "keep the one whose class is right"
        listener(Note(f"{_copies(len(in_class))} in another class; {what}: {some_of(in_class)}", warning=True))
    if in_split:
        what = "accuracy on images that were trained on is too high"
        listener(Note(f"{_copies(len(in_split))} in another split; {what}: {some_of(in_split)}", warning=True))
    if same:
        listener(Note(f"{_copies(same)} in the same class; each of them counts", warning=True))


def _copies(count: int) -> str:
    return "1 file has the same content as one" if count == 1 else f"{count} files have the same content as one"


def _class_problems(found: Scan, images: Sequence[Labelled]) -> Iterable[Problem]:
    """Too few classes, classes of other splits that the training split lacks, and names that no document can hold."""
    root = str(found.folder)
    splits_of: dict[str, set[str]] = {}
    for image in images:
        splits_of.setdefault(image.label, set()).add(image.split)
    if len(splits_of) == 1:
        (label,) = splits_of
        inner = found.folder / label
        fix = "a classifier needs two or more class folders"
        if any(Path(folder).parent == inner for folder in found.tree.folders):
            fix += f"; if the folders in {label} are the classes, give {inner}"
        yield Problem(root, f"has one class only, {label}", fix)
    for label, splits in sorted(splits_of.items()):
        if not splits & {"", "train"}:
            what = f"class {label} is in {' and '.join(sorted(splits))} and has no training image"
            yield Problem(root, what, "add training images of it, or remove it")
        if label.encode(errors="replace").decode() != label:
            yield Problem(root, f"the name of class {label!r} is not UTF-8 text", "rename it")
