"""A folder of images whose labels are in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Note
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.folder import FolderImages
from edgedistill.data.sources import UNLABELLED
from edgedistill.documents.build_file import DataConfig

NAMES = [f"{number:02}.png" for number in range(20)]


@pytest.fixture
def flat(folders: Any) -> Path:
    """Twenty images beside one another."""
    folders.add(*NAMES)
    return Path(folders.root)


def write(root: Path, *lines: str, encoding: str = "utf-8") -> None:
    (root / "labels.csv").write_bytes("\n".join([*lines, ""]).encode(encoding))


def load(root: Path, listener: Any = lambda event: None, **columns: str) -> Dataset:
    return load_dataset(DataConfig(source="folder", path=root, **columns), listener)


def paths_of(dataset: Dataset) -> tuple[str, ...]:
    assert isinstance(dataset.images, FolderImages)
    return dataset.images.paths


def labels(dataset: Dataset, root: Path) -> dict[str, str]:
    """The class of each image, by its path from the folder."""
    paths = [Path(path).relative_to(root).as_posix() for path in paths_of(dataset)]
    return {path: dataset.classes[label] for path, label in zip(paths, dataset.labels)}


def problems(root: Path, **columns: str) -> dict[str, str]:
    """What is wrong, by line or path relative to the folder."""
    with pytest.raises(InputError) as caught:
        load(root, **columns)
    assert all(problem.fix for problem in caught.value.problems)
    return {problem.where.removeprefix(f"{root}/"): problem.what for problem in caught.value.problems}


KINDS = {name: ("cat", "dog")[number % 2] for number, name in enumerate(NAMES)}


@pytest.mark.parametrize("column", ["file", "image"])
def test_a_table_says_the_class_of_each_image(flat: Path, column: str) -> None:
    write(flat, f"{column},label", *(f"{name},{kind}" for name, kind in reversed(KINDS.items())))
    dataset = load(flat)
    assert dataset.classes == ("cat", "dog")
    assert labels(dataset, flat) == KINDS
    assert len(dataset.splits.test) == 3
    write(flat, f"{column},label", *(f"{name},{kind}" for name, kind in KINDS.items()))
    assert paths_of(dataset) == paths_of(load(flat)), "whatever the order of lines"


def test_the_columns_may_be_named(flat: Path) -> None:
    write(flat, "id,label,picture,breed", *(f"1,x,{name},{kind}" for name, kind in KINDS.items()))
    assert labels(load(flat, image_column="picture", label_column="breed"), flat) == KINDS


def test_a_table_as_spreadsheets_write_it(flat: Path) -> None:
    lines = [f'"{name}", {kind} ' for name, kind in KINDS.items()]
    write(flat, "file,label", *lines, "", encoding="utf-8-sig")
    assert labels(load(flat), flat) == KINDS


def test_the_images_may_lie_in_folders(folders: Any) -> None:
    folders.add(*(f"images/{name}" for name in NAMES))
    forms = ("images/{}", "./images/{}", "images\\{}")
    lines = (forms[number % 3].format(name) + f",{KINDS[name]}" for number, name in enumerate(NAMES))
    write(folders.root, "file,label", *lines)
    expected = {f"images/{name}": kind for name, kind in KINDS.items()}
    assert labels(load(folders.root), folders.root) == expected


def test_a_column_of_splits(flat: Path) -> None:
    splits = ["train"] * 12 + ["VAL"] * 4 + ["test"] * 4
    rows = zip(KINDS.items(), splits)
    write(flat, "file,label,split", *(f"{name},{kind},{split}" for (name, kind), split in rows))
    dataset = load(flat)
    parts = (dataset.splits.train, dataset.splits.validation, dataset.splits.test)
    assert [len(part) for part in parts] == [12, 4, 4]
    paths = paths_of(dataset)
    assert sorted(Path(paths[index]).name for index in dataset.splits.test) == NAMES[16:]


def test_images_without_a_line_are_told_and_not_used(flat: Path) -> None:
    write(flat, "file,label", *(f"{name},{kind}" for name, kind in list(KINDS.items())[:18]))
    heard: list[Any] = []
    assert len(load(flat, heard.append).labels) == 18
    (note,) = heard
    assert note == Note("2 images are not used, because labels.csv does not name them: 18.png, 19.png", warning=True)


def test_every_wrong_line_is_named(flat: Path) -> None:
    (flat / "notes.txt").write_text("x")
    (flat / "empty.png").write_bytes(b"")
    good = [f"{name},{kind},train" for name, kind in KINDS.items()]
    bad = ["gone.png,cat,train", "00.png,dog,train", ",cat,train", "empty.png,dog,train", "notes.txt,cat,train"]
    write(flat, "file,label,split", *good, *bad, "../cache/x.png,cat,train", "02.png,dog,holdout")
    found = problems(flat)
    assert found == {
        "labels.csv:22": "names gone.png, which is not in the folder",
        "labels.csv:23": "names 00.png again, after line 2",
        "labels.csv:24": "has no file",
        "empty.png": "is empty (0 bytes)",
        "notes.txt": "is not an image by its name",
        "labels.csv:27": "names ../cache/x.png, which is not in the folder",
        "labels.csv:28": "names 02.png again, after line 4",
    }


def test_a_line_without_a_label_is_a_training_image_of_its_own(flat: Path) -> None:
    rows = [f"{name},{kind}" for name, kind in list(KINDS.items())[:16]]
    write(flat, "file,label", *rows, *(f"{name}," for name in list(KINDS)[16:]))
    heard: list[Any] = []
    dataset = load_dataset(DataConfig(source="folder", path=flat), heard.append)
    train = dataset.splits.train
    assert (
        dataset.labels[train].tolist()[-4:] == [UNLABELLED] * 4 and len(dataset.labelled.splits.train) == len(train) - 4
    )
    assert UNLABELLED not in dataset.labels[dataset.splits.validation]
    assert dataset.images[int(train[-1])].shape == dataset.images[int(train[0])].shape
    assert [event.text for event in heard] == [
        "4 images have no label in the table: they are trained on, and the teacher alone labels them"
    ]


def test_who_judges_needs_a_label(flat: Path) -> None:
    rows = [f"{name},{kind},train" for name, kind in KINDS.items()]
    write(flat, "file,label,split", *rows[:-2], "18.png,,validation", "19.png,,test")
    assert problems(flat) == {"labels.csv:20": "has no label", "labels.csv:21": "has no label"}


def test_an_unknown_split_is_named(flat: Path) -> None:
    rows = [f"{name},{kind},train" for name, kind in KINDS.items()]
    write(flat, "file,label,split", *rows[:-1], "19.png,dog,holdout")
    assert problems(flat) == {"labels.csv:21": "has the split 'holdout'"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "names no image"),
        ("file,label\n", "names no image"),
        ("id,breed\n1,cat\n", "has no column file and no column label, only id, breed"),
        ("file;label\n00.png;cat\n", "has no column file and no column label, only file;label"),
        ("\nfile,label\n00.png,cat\n", "has no column file and no column label, only an empty line"),
    ],
)
def test_a_table_that_is_none(flat: Path, text: str, what: str) -> None:
    (flat / "labels.csv").write_text(text)
    assert problems(flat) == {"labels.csv": what}


def test_a_table_that_is_no_text(flat: Path) -> None:
    write(flat, "file,label", "00.png,größe", encoding="latin-1")
    (told,) = problems(flat).values()
    assert told.startswith("cannot be read: ")


def test_a_table_goes_before_class_folders(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=5)
    write(folders.root, "file,label", *(f"cat/00{number}.png,{'ab'[number % 2]}" for number in range(5)))
    assert load(folders.root).classes == ("a", "b")
