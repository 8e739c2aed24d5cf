"""Which class and split each file of a folder belongs to: by its folders, or by a `labels.csv`."""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edgedistill.base.errors import Problem
from edgedistill.base.progress import Listener, Note
from edgedistill.data.content import Scan
from edgedistill.data.images import SUFFIXES
from edgedistill.data.problems import some_of

SPLIT_NAMES: Final = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
FILE_COLUMN: Final = "file"
"""The column of file names where `image_column` names none of the table's."""

SPLIT_COLUMN: Final = "split"
_BEGIN: Final = "begin it with the line file,label, or name its columns by image_column and label_column under [data]"


class Labelled(NamedTuple):
    """A file with where it belongs: `split` is empty where the splits are to be drawn, `label` for an image that has
    none."""

    path: str
    split: str
    label: str


# -- by folders -----------------------------------------------------------------------------------------------------


def by_folders(found: Scan, problems: list[Problem], listener: Listener, *, need_labels: bool = True) -> list[Labelled]:
    """The files of the class folders, at any depth. Where the only folders are called train, validation (or val, valid) and
    test, they are the splits and hold the class folders; else each folder is a class. Where there is no class folder, and
    labels are not needed, all images are without one. Adds what is wrong to `problems`."""
    skipped = len(str(found.folder)) + 1
    folders = [path[skipped:].split(os.sep) for path in found.tree.folders]  # noqa: PTH206 - Paths of many files are slow
    splits, depth = _split_folders(found.folder, [parts[0] for parts in folders if len(parts) == 1], problems)
    class_folders = {os.sep.join(parts) for parts in folders if len(parts) == depth + 1}  # noqa: PTH118
    bare = not need_labels and not class_folders
    filled: set[str] = set()
    images: list[Labelled] = []
    for file in found.tree.files:
        path = file.path
        parts = path[skipped:].split(os.sep, depth + 1)
        if len(parts) == depth + 2:
            filled.add(path[skipped : -len(parts[-1]) - 1])
            images.append(Labelled(path, splits[parts[0]] if depth else "", parts[depth]))
        elif bare and len(parts) == depth + 1 and is_image(path):
            filled.add(parts[0])
            images.append(Labelled(path, splits[parts[0]] if depth else "", ""))
        elif is_image(path):
            what = "has no label: it lies beside the class folders"
            problems.append(Problem(path, what, "move it into its class's folder"))
    empty = [(name, "class without a file") for name in sorted(class_folders - filled)]
    used = filled if bare else {name.partition(os.sep)[0] for name in class_folders}
    kind = "split without an image" if bare else "split without a class folder"
    empty += [(name, kind) for name in splits if name not in used]
    for name, kind in empty:
        path = f"{found.folder}{os.sep}{name}"
        if path not in found.tree.unreadable:
            problems.append(Problem(path, f"is a {kind}", "add images or remove it"))
    if not any(is_image(image.path) for image in images):
        what = "holds no images in class folders"
        problems.append(Problem(str(found.folder), what, "make a folder a class with its images"))
    labels = {image.label for image in images}
    inner = [parts for parts in folders if len(parts) > depth + 1 and parts[-1] in labels and parts[-1] != parts[depth]]
    if inner:
        said = some_of([f"{'/'.join(parts)} counts as {parts[depth]}" for parts in inner])
        listener(Note(f"folders with a class's name lie in another class's folder: {said}", warning=True))
    return images


def _split_folders(root: Path, names: Sequence[str], problems: list[Problem]) -> tuple[dict[str, str], int]:
    """The split of each split folder by its name, and how deep class folders lie: none, and 0, where the folders are
    classes."""
    splits = {name: SPLIT_NAMES.get(name.lower(), "") for name in sorted(names)}
    if "train" not in splits.values() or not all(splits.values()):
        return {}, 0
    first: dict[str, str] = {}
    for name, split in splits.items():
        if first.setdefault(split, name) != name:
            what = f"is a second {split} split beside {first[split]}"
            problems.append(Problem(str(root / name), what, "keep one of the two"))
    return splits, 1


# -- by a table -----------------------------------------------------------------------------------------------------


def by_table(
    found: Scan,
    table: str,
    columns: tuple[str, str],
    problems: list[Problem],
    listener: Listener,
    *,
    need_labels: bool = True,
) -> list[Labelled]:
    """The files that the CSV file `table` names, with their labels and, where it has a column `split`, their splits.
    `columns` name those of files and labels; where the first does not occur, it is `file`. A line without a label is a
    training image that the teacher alone labels. Where no line has one, and labels are not needed, it may be of any
    split, and a table of files and splits alone needs no column of labels. Adds what is wrong to `problems`."""
    read = _read_table(table, problems)
    if read is None:
        return []
    header, rows = read
    name_column = columns[0] if columns[0] in header else FILE_COLUMN
    bare = not need_labels and not any(dict(zip(header, row)).get(columns[1]) for _, row in rows)
    # Beside other columns it is the name of the column of labels that is wrong.
    wanted = (name_column,) if bare and {*header} <= {name_column, SPLIT_COLUMN} else (name_column, columns[1])
    if missing := [column for column in wanted if column not in header]:
        what = f"has no column {' and no column '.join(missing)}, only {', '.join(header) or 'an empty line'}"
        problems.append(Problem(table, what, f"{_BEGIN}; give it another name if the folders are the classes"))
        return []
    paths = {found.relative(file.path): file.path for file in found.tree.files}
    lines: dict[str, int] = {}
    images: list[Labelled] = []
    for line, row in rows:
        cells = dict(zip(header, row))
        name, label = cells.get(name_column, ""), cells.get(columns[1], "")
        path = paths.get(name) or paths.get(posixpath.normpath(name.replace("\\", "/")), "")
        split = SPLIT_NAMES.get(cells.get(SPLIT_COLUMN, "").lower(), "") if SPLIT_COLUMN in header else ""
        if not name or (not label and split not in ("", "train") and not bare):
            what, fix = f"has no {columns[1] if name else name_column}", "fill it in or remove the line"
        elif not path:
            what, fix = f"names {name}, which is not in the folder", "give its path from the folder, or remove the line"
        elif path in lines:
            what, fix = f"names {name} again, after line {lines[path]}", "keep one line for each image"
        elif SPLIT_COLUMN in header and not split:
            what, fix = f"has the split {cells.get(SPLIT_COLUMN, '')!r}", "write train, validation or test"
        else:
            lines[path] = line
            images.append(Labelled(path, split, label))
            continue
        problems.append(Problem(f"{table}:{line}", what, fix))
    unused = [name for name, path in paths.items() if path not in lines and is_image(path)]
    if unused:
        told = f"{len(unused)} image{'s are' if len(unused) > 1 else ' is'} not used"
        listener(Note(f"{told}, because {Path(table).name} does not name them: {some_of(unused)}", warning=True))
    return images


def _read_table(table: str, problems: list[Problem]) -> tuple[list[str], list[tuple[int, list[str]]]] | None:
    """The column names, and the cells of each further line with its number; None, and a problem, if it has none."""
    try:
        with Path(table).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [cell.strip() for cell in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem(table, f"cannot be read: {error}", "save it as UTF-8 text with commas between columns"))
        return None
    if not rows:
        problems.append(Problem(table, "names no image", f"{_BEGIN}, and add a line for each image"))
        return None
    return header, rows


def is_image(path: str) -> bool:
    """Whether a file is meant as an image, by the end of its name."""
    return path[path.rfind(".") :].lower() in SUFFIXES
