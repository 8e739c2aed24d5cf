"""Hugging Face `datasets`: a folder saved with `save_to_disk`, or a data set of the hub by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedistill.base.errors import InputError, MissingDependencyError, Problem
from edgedistill.base.progress import Listener, Note, silent
from edgedistill.base.units import Color
from edgedistill.data.content import require_folder
from edgedistill.data.images import BAD_FILE_ERRORS, size_fault, to_rgb
from edgedistill.data.problems import data_error, some_of
from edgedistill.data.sources import Indices, Joined, Loaded, Pixels, ranges
from edgedistill.data.threads import told_if_slow
from edgedistill.documents.build_file import DataConfig

_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


@dataclass(frozen=True, eq=False)
class HuggingFaceImages:
    """The image column of one split, decoded when asked for; what is transparent is put on `background`. `name` is what an
    error calls it."""

    rows: Any
    column: str
    background: Color
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> Pixels:
        try:
            return _decoded(self.rows[index][self.column], self.background)
        except BAD_FILE_ERRORS as error:
            raise InputError(
                f"row {index} of {self.name} cannot be decoded: {error}",
                fix="remove that row, or let a build leave such rows out: --skip-broken",
            ) from error

    @property
    def decoded(self) -> bool:
        return False


def _decoded(image: Any, background: Color) -> Pixels:
    """What a row has as its image, as pixels. Raises one of BAD_FILE_ERRORS."""
    if image is None:
        raise ValueError("there is no image")
    if fault := size_fault(*image.size):
        raise ValueError(f"the image {fault}")
    return np.asarray(to_rgb(image, background))


def load_huggingface(config: DataConfig, listener: Listener = silent) -> Loaded:
    """Its splits where it has them, else one to split. Classes are those of a ClassLabel column, the sorted texts of a
    string column, or the numbers of an integer one. With `config.skip_broken` each row is decoded, and those that cannot be
    are left out; `listener` is warned of them. Never runs a data set's own code. Raises InputError with every problem,
    MissingDependencyError without `datasets`."""
    name = str(config.name or config.path)
    splits = _splits(_open(config), name)
    problems: list[Problem] = []
    for split, rows in splits.items():
        problems += _column_problems(rows, config, f"{name} [{split}]")
    if problems:
        raise InputError(f"{name} has {len(problems)} problem{'s' * (len(problems) > 1)}", problems=problems)
    if config.skip_broken:
        splits = {split: _sound(rows, config, f"{name} [{split}]", listener) for split, rows in splits.items()}
    values = {split: _values(rows, config.label_column) for split, rows in splits.items()}
    classes, numbers = _classes(splits["train"].features[config.label_column], values)
    labels = {split: np.array([numbers.get(value, -1) for value in found], np.int64) for split, found in values.items()}
    problems += [
        Problem(f"{name} [{split}] row {row}", f"has no label of a class ({values[split][row]!r})", "remove that row")
        for split, found in labels.items()
        for row in np.flatnonzero(found < 0).tolist()
    ]
    if problems:
        raise data_error(f"{name} has {len(problems)} unlabelled row{'s' * (len(problems) > 1)}", problems)
    indices: dict[str, Indices] = dict(zip(labels, ranges([len(found) for found in labels.values()]), strict=True))
    return Loaded(
        name=name.rsplit("/", 1)[-1],
        classes=classes,
        labels=np.concatenate(list(labels.values())),
        images=Joined(
            tuple(
                HuggingFaceImages(rows, config.image_column, config.background, f"{name} [{split}]")
                for split, rows in splits.items()
            )
        ),
        train=indices["train"],
        validation=indices.get("validation"),
        test=indices.get("test"),
    )


def _sound(rows: Any, config: DataConfig, where: str, listener: Listener) -> Any:
    """The rows whose images can be decoded. Raises InputError where none can."""
    broken: list[int] = []
    with told_if_slow(listener, "decode", where, len(rows)) as advance:
        for index in range(len(rows)):
            try:
                _decoded(rows[index][config.image_column], config.background)
            except BAD_FILE_ERRORS:
                broken.append(index)
            advance(index + 1)
    if not broken:
        return rows
    if len(broken) == len(rows):
        raise InputError(f"no image of {where} can be decoded", fix="check its image column")
    told = f"{len(broken)} rows of {where} cannot be decoded and are left out"
    listener(Note(f"{told}: {some_of([str(index) for index in broken])}", warning=True))
    return rows.select([index for index in range(len(rows)) if index not in set(broken)])


def _open(config: DataConfig) -> Any:
    """The Dataset or DatasetDict that the build file names."""
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError:
        raise MissingDependencyError(
            'source = "huggingface" needs the datasets package', fix="pip install 'edgedistill[huggingface]'"
        ) from None
    try:
        if config.path is not None:
            return datasets.load_from_disk(str(require_folder(config.path, "the data folder")))
        return datasets.load_dataset(config.name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())
        if config.path is not None:
            raise InputError(
                f"{config.path} is not a saved data set: {reason}",
                fix="name a folder written by save_to_disk of the datasets package",
            ) from error
        raise InputError(
            f"the data set {config.name} cannot be loaded: {reason}",
            fix="check [data] name and the network, or give path = a folder written by save_to_disk",
        ) from error


def _splits(found: Any, name: str) -> dict[str, Any]:
    """Rows by split, train first. A data set without splits, or with a single one of any name, is all there is to train
    and to split."""
    if not isinstance(found, dict):
        return {"train": found}
    if len(found) == 1:
        return {"train": next(iter(found.values()))}
    result = {
        split: found[spelling] for split, spellings in _SPLITS.items() for spelling in spellings if spelling in found
    }
    if "train" not in result:
        raise InputError(f"{name} has no train split, only {', '.join(found)}", fix="rename one of its splits to train")
    return result


def _column_problems(rows: Any, config: DataConfig, where: str) -> list[Problem]:
    from datasets import Image

    if not len(rows):
        return [Problem(where, "has no rows", "remove that split or fill it")]
    known = ", ".join(rows.features)
    problems = [
        Problem(where, f"has no column {column}", f"set {option} under [data] to one of: {known}")
        for option, column in (("image_column", config.image_column), ("label_column", config.label_column))
        if column not in rows.features
    ]
    if config.image_column in rows.features and not isinstance(rows.features[config.image_column], Image):
        problems.append(
            Problem(
                where,
                f"column {config.image_column} holds no images",
                "cast it with cast_column(name, datasets.Image()), or name another image_column",
            )
        )
    label = rows.features.get(config.label_column)
    if label is not None and not re.match(r"int|uint|string|large_string|bool", str(getattr(label, "dtype", "list"))):
        problems.append(
            Problem(
                where,
                f"column {config.label_column} holds no labels but {label}",
                "name a column of class labels, integers or texts as label_column",
            )
        )
    return problems


def _values(rows: Any, column: str) -> list[Any]:
    """A column as plain Python values, without decoding the images beside it."""
    return list(rows.select_columns([column]).with_format(None)[:][column])


def _classes(feature: Any, values: dict[str, list[Any]]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Class names in order, and the class of each value that stands in the label column."""
    if names := getattr(feature, "names", None):
        return tuple(names), {index: index for index in range(len(names))}
    present = {value for found in values.values() for value in found if isinstance(value, int | str) and value != ""}
    ordered = sorted(
        (value for value in present if isinstance(value, str) or value >= 0), key=lambda v: (str(type(v)), v)
    )
    return tuple(str(value) for value in ordered), {value: index for index, value in enumerate(ordered)}
