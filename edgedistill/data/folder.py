"""Images in folders: one a class, or `train`, `validation` and `test` folders of such; or labelled by a `labels.csv`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.progress import Listener, Note, silent
from edgedistill.base.units import Color
from edgedistill.data.checking import usable
from edgedistill.data.content import Scan
from edgedistill.data.fingerprint import labels_file
from edgedistill.data.images import BAD_FILE_ERRORS, read_rgb
from edgedistill.data.labelling import Labelled, by_folders, by_table, is_image
from edgedistill.data.problems import data_error, some_of
from edgedistill.data.sources import UNLABELLED, Loaded, Pixels, ranges
from edgedistill.documents.build_file import DataConfig

_SPLITS: Final = {"": 0, "train": 0, "validation": 1, "test": 2}
"""Splits in the order of a data set's images. Without a name is what splits are drawn from."""


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Image files, decoded when asked for; what is transparent in them is put on `background`."""

    paths: tuple[str, ...]
    background: Color

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Pixels:
        path = self.paths[index]
        try:
            return read_rgb(Path(path), self.background)
        except BAD_FILE_ERRORS as error:
            raise InputError(
                f"{path} can no longer be read: {error}", fix="leave the data as it is while a build runs"
            ) from error

    @property
    def decoded(self) -> bool:
        return False


def load_folder(found: Scan, config: DataConfig, listener: Listener = silent, *, need_labels: bool = True) -> Loaded:
    """The images of a folder that was looked through, by split, class and path. With a `labels.csv` in the folder, that says
    what each is (see `by_table`), else the folders do (see `by_folders`). With `need_labels` off all may be without one:
    there are no classes then.

    `listener` hears of files with the same content and how far a long check is. Raises InputError for every file that is
    unreadable, damaged, of a wrong size, empty, no image (these are left out with `config.skip_broken`), or without a label,
    and every class that has no training image.
    """
    problems = _unreadable(found)
    columns, table = (config.image_column, config.label_column), labels_file(found)
    if table is None:
        named = by_folders(found, problems, listener, need_labels=need_labels)
    else:
        named = by_table(found, table, columns, problems, listener, need_labels=need_labels)
    bare = not need_labels and not any(image.label for image in named)
    named.sort(key=lambda image: (_SPLITS[image.split], image.label, image.path))
    before = len(problems)
    kept = usable([image.path for image in named], found, config, problems, listener)
    images = [image for image in named if image.path in kept]
    broken = len(problems) > before
    _tell_copies(images, found, listener)
    unlabelled = tuple(image.path for image in images if not image.label and not bare)
    # Those that cannot be used count here: what is wrong with their classes is told at once with what is wrong with them.
    labelled = [image for image in named if image.label and is_image(image.path)]
    problems += _class_problems(found, labelled, need_labels=need_labels)
    images = [image for image in images if image.label or bare]
    if config.skip_broken:
        problems += _lost(found, named, images)
    if unlabelled:
        what = "have no label in the table: they are trained on, and the teacher alone labels them"
        listener(Note(f"{len(unlabelled)} images {what}"))
    _raise_any(found, problems, broken=broken)
    classes = tuple(sorted({image.label for image in images} - {""}))
    number = {"": UNLABELLED} | {label: index for index, label in enumerate(classes)}
    sizes = Counter(image.split for image in images)
    indices = dict(zip(sizes, ranges(list(sizes.values())), strict=True))
    return Loaded(
        name=found.folder.name,
        classes=classes,
        labels=np.array([number[image.label] for image in images], dtype=np.int64),
        images=FolderImages(tuple(image.path for image in images), config.background),
        train=next(iter(indices.values())),
        validation=indices.get("validation"),
        test=indices.get("test"),
        unlabelled=FolderImages(unlabelled, config.background) if unlabelled else None,
    )


def load_unlabelled(
    found: Scan, config: DataConfig, held_out: Collection[str], listener: Listener = silent
) -> FolderImages:
    """All images in a folder that was looked through, at any depth, by path, but for those whose content (SHA-256) is in
    `held_out`. Raises InputError for every file that is unreadable or damaged (these are left out with
    `config.skip_broken`), and where there is no image."""
    problems = _unreadable(found)
    paths = sorted(file.path for file in found.tree.files if is_image(file.path))
    before = len(problems)
    sound = usable(paths, found, config, problems, listener)
    broken = len(problems) > before
    if not (paths if broken else sound):
        problems.append(Problem(str(found.folder), "holds no images", "name the folder that does, or leave it out"))
    _raise_any(found, problems, broken=broken)
    kept = [path for path in paths if path in sound and found.contents[path].sha256 not in held_out]
    if len(kept) < len(sound):
        left = [found.relative(path) for path in sorted(sound) if found.contents[path].sha256 in held_out]
        what = "are images of the validation or test split, and are not trained on"
        listener(Note(f"{len(left)} of the unlabelled images {what}: {some_of(left)}", warning=True))
    others = [found.relative(file.path) for file in found.tree.files if not is_image(file.path)]
    if others:
        listener(Note(f"{len(others)} files beside the unlabelled images are no images by name: {some_of(others)}"))
    return FolderImages(tuple(kept), config.background)


def _unreadable(found: Scan) -> list[Problem]:
    return [Problem(path, fault, "check its permissions") for path, fault in sorted(found.tree.unreadable.items())]


def _raise_any(found: Scan, problems: Sequence[Problem], *, broken: bool) -> None:
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        fix = "a build leaves files that cannot be used out with --skip-broken" if broken else ""
        raise data_error(f"the images in {found.folder} have {count}", problems, fix)


def _lost(found: Scan, named: Sequence[Labelled], kept: Sequence[Labelled]) -> Iterable[Problem]:
    """Classes of which no training image can be used, and splits of which none can."""
    bare = not any(image.label for image in named)
    places = [{_place(image): None for image in images if image.label or bare} for images in (named, kept)]
    for place in places[0]:
        if place not in places[1]:
            yield Problem(str(found.folder), f"no image of the {place} can be used", "replace them, or remove it")


def _place(image: Labelled) -> str:
    """What an image must not be the last one of: its class in training, else its split."""
    if image.split in ("", "train"):
        return f"class {image.label}" if image.label else "training split"
    return f"{image.split} split"


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


def _class_problems(found: Scan, images: Sequence[Labelled], *, need_labels: bool) -> Iterable[Problem]:
    """Too few classes, classes of other splits that the training split lacks, and names that no document can hold."""
    root = str(found.folder)
    splits_of: dict[str, set[str]] = {}
    for image in images:
        splits_of.setdefault(image.label, set()).add(image.split)
    if len(splits_of) == 1:
        (label,) = splits_of
        inner = found.folder / label
        fix = "a classifier needs two or more class folders"
        if not need_labels:
            fix = "add a second class, or give the images without a class folder: they need no labels"
        if any(Path(folder).parent == inner for folder in found.tree.folders):
            fix += f"; if the folders in {label} are the classes, give {inner}"
        yield Problem(root, f"has one class only, {label}", fix)
    for label, splits in sorted(splits_of.items()):
        if not splits & {"", "train"}:
            what = f"class {label} is in {' and '.join(sorted(splits))} and has no training image"
            yield Problem(root, what, "add training images of it, or remove it")
        if label.encode(errors="replace").decode() != label:
            yield Problem(root, f"the name of class {label!r} is not UTF-8 text", "rename it")
