"""What a teacher said of each image, from a file: a black box, of which nothing else is known."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.arrays import UNREADABLE
from edgedistill.base.errors import InputError, MissingDependencyError, Problem, first_line
from edgedistill.data.problems import data_error, some_of
from edgedistill.data.views import UNMIXED, Views
from edgedistill.distill.stored.mixing import softmax

Rows = NDArray[np.float32]

NAMES: Final = ("file", "index")
"""Columns that say which image a line is of."""
LEAST: Final = 1e-12
"""A probability below it counts as this: its logarithm still is a number."""


def read_outputs(path: Path, names: Sequence[str], classes: tuple[str, ...]) -> Rows:
    """Logits float32 [n, classes] of the images called `names` [n], NaN where the file has none of an image.

    A .npy is a row for each image, in their order. A .csv or .parquet has a column of names (`file` or `index`), and a
    column for each class, in any order. Rows of probabilities become their logarithms. Raises InputError with all that is
    wrong.
    """
    with _read(path):
        found = _array(path, names, classes) if path.suffix == ".npy" else _table(path, names, classes)
    known = _finite(path, names, found, "give the teacher's logits or probabilities")
    if len(known) and (known >= 0).all() and np.allclose(known.sum(axis=1), 1, atol=1e-3):
        found = np.log(np.maximum(found, LEAST))
    return found


def read_vectors(path: Path, names: Sequence[str]) -> Rows:
    """Vectors float32 [n, D] of length 1 of the images called `names` [n], NaN where the file has none of an image.

    A .npy is a row for each image, in their order. A .csv or .parquet has a column of names (`file` or `index`), and a
    column for each number, in their order; a .parquet may have one column of lists instead. Raises InputError with all that
    is wrong.
    """
    with _read(path):
        if path.suffix == ".npy":
            found = _loaded(path)
            if found.ndim != 2 or len(found) != len(names):
                raise InputError(
                    f"{path} has shape {list(found.shape)}, and the data has {len(names):,} images",
                    fix="save a vector for each image of all splits, or a CSV with a column file and one for each number",
                )
            found = found.astype(np.float32)
        else:
            found = _table(path, names, None)
    known = _finite(path, names, found, "give the teacher's vectors")
    if len(known) and not np.abs(known).sum(axis=1).all():
        raise InputError(f"{path} has vectors of zeros alone", fix="leave those images out, or give their vectors")
    lengths = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    rows: Rows = (found / lengths).astype(np.float32)
    return rows


def dimension_in(path: Path) -> int:
    """How many numbers the vectors of a file have. Raises InputError."""
    with _read(path):
        if path.suffix == ".npy":
            array = _loaded(path, mapped=True)
            if array.ndim != 2:
                raise InputError(
                    f"{path} has shape {list(array.shape)}, not [images, D]", fix="save a row for each image"
                )
            return int(array.shape[1])
        columns, lines = _parquet(path) if path.suffix == ".parquet" else _csv(path)
        numbers = [name for name in columns if name not in NAMES]
        first = next(iter(lines), None)
        value = first[1].get(numbers[0]) if first and len(numbers) == 1 else None
        return len(value) if isinstance(value, list) else len(numbers)


@contextmanager
def _read(path: Path) -> Iterator[None]:
    """What reading a file raises as an InputError."""
    try:
        yield
    except (*UNREADABLE, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read: {first_line(error)}",
            fix="save it by numpy.save, as CSV in UTF-8, or as parquet",
        ) from error


def _loaded(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The one array of real numbers in a file. Raises ValueError where it is another thing."""
    found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise ValueError("it does not hold one array of real numbers")
    return found


def _finite(path: Path, names: Sequence[str], found: Rows, fix: str) -> Rows:
    """The rows that are known. Raises InputError for those that are so in part."""
    missing = np.isnan(found).all(axis=1)
    if not np.isfinite(found[~missing]).all():
        rows = np.flatnonzero(~np.isfinite(found).all(axis=1) & ~missing)
        raise InputError(
            f"{path} has numbers that are not finite, for {some_of([names[row] for row in rows.tolist()])}", fix=fix
        )
    return found[~missing]


def _array(path: Path, names: Sequence[str], classes: tuple[str, ...]) -> Rows:
    array = _loaded(path)
    if array.shape != (len(names), len(classes)):
        raise InputError(
            f"{path} has shape {list(array.shape)}, and the data has {len(names):,} images of {len(classes)} classes",
            fix="save a row for each image of all splits, or a CSV with a column file and a column for each class",
        )
    rows: Rows = array.astype(np.float32)
    return rows


def _table(path: Path, names: Sequence[str], classes: tuple[str, ...] | None) -> Rows:
    """The rows of a table: a number for each of `classes`, or where there are none the vectors that it holds."""
    columns, lines = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    numbers = classes or tuple(name for name in columns if name not in NAMES)
    width = len(classes) if classes else dimension_in(path)
    key = next((name for name in NAMES if name in columns), None)
    problems = [
        Problem(str(path), f"has no column {name}", "add a column for each class")
        for name in numbers
        if name not in columns
    ]
    if key is None:
        problems.insert(0, Problem(str(path), "has no column file or index", "say in one which image each line is of"))
    if problems or key is None:
        what = "says nothing of some classes" if classes else "does not say of which images it is"
        raise data_error(f"{path.name} {what}", problems)
    position = {name: number for number, name in enumerate(names)}
    rows = np.full((len(names), width), np.nan, np.float32)
    seen: set[str] = set()
    for number, line in lines:
        name = str(line[key]).replace("\\", "/").removeprefix("./")
        where = f"{path}:{number}"
        if name in seen:
            problems.append(Problem(where, f"names {name} again", "keep one line for each image"))
        seen.add(name)
        if name not in position:
            continue  # of other data, or of images that are not used
        try:
            listed = line[numbers[0]] if len(numbers) == 1 and width > 1 else None
            values = listed if isinstance(listed, list) else [line[label] for label in numbers]
            rows[position[name]] = [float(value) for value in values]
        except (TypeError, ValueError):
            what = "has no number for each class" if classes else f"has no {width} numbers"
            problems.append(Problem(where, what, "fill it in, or remove the line"))
    if problems:
        raise data_error(f"{path.name} has {len(problems)} problem{'s' * (len(problems) > 1)}", problems)
    return rows


Lines = Iterable[tuple[int, Mapping[str, Any]]]


def _csv(path: Path) -> tuple[list[str], Lines]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        return list(reader.fieldnames or ()), [(reader.line_num, line) for line in reader]


def _parquet(path: Path) -> tuple[list[str], Lines]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise MissingDependencyError(
            f"{path} needs pyarrow", fix="pip install 'edgedistill[parquet]', or save it as CSV"
        ) from None
    table = parquet.read_table(path)

    def lines() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for batch in table.to_batches():
            yield from enumerate(batch.to_pylist(), start=1)

    return list(table.column_names), lines()


def mixed_outputs(rows: Rows, views: Views, *, vectors: bool = False) -> Rows:
    """What is learnt of views of the training images whose logits are `rows` [n, classes]: of a view that is blended with a
    partner's, the logarithm of the mean of both images' probabilities, weighed as the view is, or of `vectors` [n, D] their
    mean. Of nothing else about a view the file can tell."""
    weight = views["mix_weight"].astype(np.float64) / UNMIXED
    blended = np.flatnonzero(weight < 1)
    if not len(blended):
        return rows
    chances = rows.astype(np.float64) if vectors else softmax(rows)
    share = weight[blended, None]
    mean = share * chances[blended] + (1 - share) * chances[views["mix_partner"][blended]]
    found = rows.copy()
    found[blended] = mean if vectors else np.log(np.maximum(mean, LEAST))
    return found
