"""A folder of images without labels, beside data that have them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.fingerprint import fingerprint
from edgedistill.data.sources import UNLABELLED
from edgedistill.documents.build_file import DataConfig


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Five images, two of them in a folder."""
    folder = tmp_path / "more"
    (folder / "inner").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.png", "c.jpg", "inner/a.png", "inner/b.png")):
        Image.fromarray(np.full((7, 11, 3), 40 * number, np.uint8)).save(folder / name)
    return folder


def load(more: Path, heard: list[Any] | None = None, **options: Any) -> Dataset:
    return load_dataset(DataConfig(unlabelled=more, **options), (heard if heard is not None else []).append)


def test_they_are_training_images_after_all_others(more: Path) -> None:
    plain, found = load_dataset(DataConfig()), load(more)
    count = len(plain.images)
    assert found.splits.train.tolist() == [*plain.splits.train.tolist(), *range(count, count + 5)]
    assert found.labels[count:].tolist() == [UNLABELLED] * 5
    assert found.images[count].shape == (7, 11, 3), "by path: a.png"
    assert int(found.images[count][0, 0, 0]) == 40 and int(found.images[count + 1][0, 0, 0]) == 0
    for split in ("validation", "test"):
        np.testing.assert_array_equal(getattr(found.splits, split), getattr(plain.splits, split))
    np.testing.assert_array_equal(found.labelled.splits.train, plain.splits.train)


def test_the_fingerprint_knows_them(more: Path) -> None:
    config = DataConfig(unlabelled=more)
    before = fingerprint(config)
    assert before == load(more).fingerprint != fingerprint(DataConfig())
    (more / "a.png").unlink()
    assert fingerprint(config) == load(more).fingerprint != before


def test_images_that_judge_are_not_taught(folders: Any, more: Path) -> None:
    folders.add_classes("cat", "dog", count=20)
    plain = load_dataset(DataConfig(source="folder", path=folders.root))
    held_out, trained = plain.images.paths[plain.splits.test[0]], plain.images.paths[plain.splits.train[0]]  # type: ignore[attr-defined]
    shutil.copy(held_out, more / "again.png")
    shutil.copy(trained, more / "too.png")
    heard: list[Any] = []
    found = load(more, heard, source="folder", path=folders.root)
    assert len(found.splits.train) == len(plain.splits.train) + 6
    (note,) = (event.text for event in heard)
    assert (
        note.startswith("1 of the unlabelled images are images of the validation or test split") and "again.png" in note
    )


def test_what_cannot_be_read_is_named(more: Path, tmp_path: Path) -> None:
    (more / "bad.png").write_bytes(b"x")
    (more / "notes.txt").write_text("about")
    with pytest.raises(InputError, match="1 problem") as caught:
        load(more)
    assert [Path(problem.where).name for problem in caught.value.problems] == ["bad.png"]
    (more / "bad.png").unlink()
    heard: list[Any] = []
    load(more, heard)
    assert [event.text for event in heard] == ["1 files beside the unlabelled images are no images by name: notes.txt"]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError) as caught:
        load(tmp_path / "none")
    assert "holds no images" in str(caught.value)
    with pytest.raises(InputError, match=r"the folder of unlabelled images .* does not exist"):
        load(tmp_path / "gone")


def test_broken_ones_are_left_out_where_that_is_asked_for(more: Path) -> None:
    (more / "inner" / "bad.png").write_text("x")
    with pytest.raises(InputError, match="--skip-broken"):
        load(more)
    heard: list[Any] = []
    found = load(more, heard, skip_broken=True)
    assert int((found.labels == UNLABELLED).sum()) == 5
    assert any("left out: inner/bad.png" in event.text for event in heard)
    for path in more.rglob("*.*"):
        path.write_text("x")
    with pytest.raises(InputError, match="holds no images"):
        load(more, skip_broken=True)
