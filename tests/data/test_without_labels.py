"""Data of which no image has a label: for what needs none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.sources import UNLABELLED
from edgedistill.documents.build_file import DataConfig


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def loaded(folder: Path, *, need_labels: bool = False, **config: object) -> Dataset:
    asked = DataConfig.model_validate({"source": "folder", "path": folder, **config})
    return load_dataset(asked, need_labels=need_labels)


def loose(folder: Path) -> tuple[int, ...] | None:
    for number in range(20):
        picture(folder / f"{number:02}.png", number)
    return None


def splits(folder: Path) -> tuple[int, ...] | None:
    for number in range(20):
        split = "train" if number < 12 else "val" if number < 15 else "test"
        picture(folder / split / f"{number:02}.png", number)
    return 12, 3, 5


def table(folder: Path) -> tuple[int, ...] | None:
    loose(folder)
    lines = [f"{number:02}.png,{'train' if number < 10 else 'validation'}" for number in range(17)]
    (folder / "labels.csv").write_text("\n".join(["file,split", *lines]))
    return None


def empty_labels(folder: Path) -> tuple[int, ...] | None:
    loose(folder)
    lines = [f"{number:02}.png,,{'train' if number < 10 else 'test'}" for number in range(20)]
    (folder / "labels.csv").write_text("\n".join(["file,label,split", *lines]))
    return None


@pytest.mark.parametrize(
    ("write", "sizes"), [(loose, (14, 3, 3)), (splits, (12, 3, 5)), (table, (8, 7, 2)), (empty_labels, (8, 2, 10))]
)
def test_images_without_labels_have_splits_and_no_classes(
    tmp_path: Path, write: Callable[[Path], object], sizes: tuple[int, int, int]
) -> None:
    write(tmp_path / "pictures")
    dataset = loaded(tmp_path / "pictures")
    parts = [dataset.splits.train, dataset.splits.validation, dataset.splits.test]
    assert tuple(map(len, parts)) == sizes
    every = np.concatenate(parts)
    assert len(set(every.tolist())) == len(every) == len(dataset.images)
    assert dataset.classes == () and (dataset.labels == UNLABELLED).all()
    with pytest.raises(InputError):
        loaded(tmp_path / "pictures", need_labels=True)


def test_labels_count_where_there_are_some(tmp_path: Path) -> None:
    for number in range(20):
        picture(tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png", number)
    assert loaded(tmp_path / "pictures").classes == ("a", "b")
    picture(tmp_path / "pictures" / "beside.png", 99)
    with pytest.raises(InputError) as caught:
        loaded(tmp_path / "pictures")
    assert "beside the class folders" in str(caught.value.problems)


def test_a_wrong_name_of_the_labels_column_is_told(tmp_path: Path) -> None:
    loose(tmp_path / "pictures")
    (tmp_path / "pictures" / "labels.csv").write_text("file,kind\n00.png,cat\n01.png,dog\n")
    with pytest.raises(InputError) as caught:
        loaded(tmp_path / "pictures")
    assert "has no column label, only file, kind" in str(caught.value.problems)


def test_one_class_folder_says_nothing(tmp_path: Path) -> None:
    loose(tmp_path / "pictures" / "all")
    with pytest.raises(InputError) as caught:
        loaded(tmp_path / "pictures")
    assert "give the images without a class folder" in str(caught.value.problems)
    assert len(loaded(tmp_path / "pictures" / "all").images) == 20


@pytest.mark.parametrize("broken", [["00.png"], [f"{number:02}.png" for number in range(12, 15)]])
def test_a_split_that_cannot_be_used_is_told(tmp_path: Path, broken: list[str]) -> None:
    splits(tmp_path / "pictures")
    for name in broken:
        (path,) = (tmp_path / "pictures").glob(f"*/{name}")
        path.write_bytes(b"no image")
    if len(broken) == 1:
        assert len(loaded(tmp_path / "pictures", skip_broken=True).splits.train) == 11
        return
    with pytest.raises(InputError) as caught:
        loaded(tmp_path / "pictures", skip_broken=True)
    assert "no image of the validation split can be used" in str(caught.value.problems)


def test_an_empty_split_folder_is_told(tmp_path: Path) -> None:
    splits(tmp_path / "pictures")
    for path in (tmp_path / "pictures" / "test").iterdir():
        path.unlink()
    with pytest.raises(InputError) as caught:
        loaded(tmp_path / "pictures")
    assert "is a split without an image" in str(caught.value.problems)
