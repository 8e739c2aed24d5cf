"""Images in folders: one a class, or `train`, `validation` and `test` folders of such.

Every file is decoded once before anything is built on it, and what was found is remembered by the hash of its content.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.machine import allowed_cpus
from edgedistill.base.store import tool_version
from edgedistill.data.content import (
    FolderContent,
    content_hashes,
    is_hidden,
    known_verdicts,
    remember_verdicts,
    require_folder,
    walk,
)
from edgedistill.data.images import BAD_FILE_ERRORS, CHECK_VERSION, SUFFIXES, find_fault, read_rgb
from edgedistill.data.sources import Loaded, Pixels, ranges

SPLIT_NAMES: Final = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


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


@dataclass(frozen=True)
class _File:
    """An image file with where it was found: `split` is empty where the splits are to be drawn."""

    path: str
    split: str
    label: str


def load_folder(root: Path) -> Loaded:
    """All images below `root`, classes and files sorted by name.

    Where the only folders are called train, validation (or val, valid) and test, they are the splits; else each folder is
    a class. Raises InputError that lists every file that is unreadable, damaged, of a wrong size, empty, no image, a copy of
    another (whatever its class and split: it would count twice, or leak), or without a label, and every class that has
    no training image.
    """
    require_folder(root, "the data folder")
    problems: list[Problem] = []
    split_folders = _find_splits(root, problems)
    files = [file for split, folder in split_folders for file in _find_images(folder, split, problems)]
    contents = content_hashes([file.path for file in files])
    faults = _faults(files, contents)
    problems += [Problem(path, fault, "replace it or remove it") for path, fault in faults.items()]
    problems += _duplicated([file for file in files if file.path not in faults], contents)
    classes = tuple(sorted({file.label for file in files}))
    problems += _unbalanced(root, files, classes)
    if problems:
        raise InputError(
            f"the images in {root} have {len(problems)} problem{'s' * (len(problems) > 1)}", problems=problems
        )
    by_split = {split: [file for file in files if file.split == split] for split, _ in split_folders}
    indices = dict(zip(by_split, ranges([len(group) for group in by_split.values()]), strict=True))
    ordered = [file for group in by_split.values() for file in group]
    number = {label: index for index, label in enumerate(classes)}
    return Loaded(
        name=root.name,
        classes=classes,
        labels=np.array([number[file.label] for file in ordered], dtype=np.int64),
        images=FolderImages(tuple(file.path for file in ordered)),
        train=next(iter(indices.values())),
        validation=indices.get("validation"),
        test=indices.get("test"),
    )


def _find_splits(root: Path, problems: list[Problem]) -> list[tuple[str, Path]]:
    """(split, folder) for each split folder, train first; ("", root) where the folders are classes."""
    named = [(SPLIT_NAMES.get(folder.name.lower(), ""), folder) for folder in _subfolders(root)]
    if not any(split == "train" for split, _ in named) or not all(split for split, _ in named):
        return [("", root)]
    _list_unlabelled(root, problems)
    result: dict[str, Path] = {}
    for split, folder in named:
        if split in result:
            problems.append(
                Problem(str(folder), f"is a second {split} split beside {result[split].name}", "keep one of the two")
            )
        else:
            result[split] = folder
    return [(split, result[split]) for split in ("train", "validation", "test") if split in result]


def _find_images(folder: Path, split: str, problems: list[Problem]) -> list[_File]:
    """Image files of the class folders in `folder`, at any depth, sorted."""
    _list_unlabelled(folder, problems)
    result: list[_File] = []
    for class_folder in _subfolders(folder):
        try:
            paths = walk(require_folder(class_folder, "the class folder")).files
        except InputError as error:
            problems.append(Problem(str(class_folder), error.message, error.fix))
            continue
        if not paths:
            problems.append(Problem(str(class_folder), "is a class without a file", "add images or remove it"))
        for path in paths:
            if Path(path).suffix.lower() in SUFFIXES:
                result.append(_File(path, split, class_folder.name))
            else:
                fix = f"move it away; known: {', '.join(sorted(SUFFIXES))}"
                problems.append(Problem(path, "is not an image by its name", fix))
    return result


def _list_unlabelled(folder: Path, problems: list[Problem]) -> None:
    """Images that lie beside the class folders and so have no label; other files there (a README) hold no image."""
    problems += [
        Problem(str(path), "has no label: it lies beside the class folders", "move it into its class's folder")
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not is_hidden(path.name) and not path.is_dir()
    ]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _faults(files: list[_File], contents: dict[str, FolderContent]) -> dict[str, str]:
    """Why files cannot be read or decoded, by path. Contents decoded before, by the same Pillow, are not decoded again."""
    checker = f"image {CHECK_VERSION} pillow {tool_version('pillow')}"
    path_of = {contents[file.path].sha256: file.path for file in files if not contents[file.path].fault}
    faults = known_verdicts(checker, path_of)
    unknown = [sha256 for sha256 in path_of if sha256 not in faults]
    # Pillow decodes outside the interpreter's lock, so threads do it in parallel.
    with ThreadPoolExecutor(len(allowed_cpus())) as pool:
        found = dict(zip(unknown, pool.map(find_fault, [Path(path_of[sha256]) for sha256 in unknown]), strict=True))
    remember_verdicts(checker, found)
    faults |= found
    by_path = {file.path: contents[file.path].fault or faults[contents[file.path].sha256] for file in files}
    return {path: fault for path, fault in by_path.items() if fault}


def _duplicated(sound: list[_File], contents: dict[str, FolderContent]) -> Iterable[Problem]:
    """Files with the content of an earlier one."""
    first: dict[str, _File] = {}
    for file in sound:
        original = first.setdefault(contents[file.path].sha256, file)
        if original is file:
            continue
        what = f"has the same content as {original.path}"
        if file.label != original.label:
            yield Problem(file.path, f"{what}, under another class", "keep the one whose class is right")
        elif file.split != original.split:
            yield Problem(file.path, f"{what}, in another split", "keep one: the splits must not share images")
        else:
            yield Problem(file.path, what, "remove one of the two")


def _unbalanced(root: Path, files: list[_File], classes: tuple[str, ...]) -> Iterable[Problem]:
    """Too few classes, and classes of other splits that the training split lacks."""
    if not files:
        yield Problem(str(root), "holds no images in class folders", "make a folder a class with its images")
    elif len(classes) < 2:
        yield Problem(str(root), f"has one class only, {classes[0]}", "a classifier needs two or more class folders")
    for label in classes:
        found = {file.split for file in files if file.label == label}
        if not found & {"", "train"}:
            yield Problem(
                str(root),
                f"class {label} is in {' and '.join(sorted(found))} and has no training image",
                "add training images of it, or remove it",
            )
