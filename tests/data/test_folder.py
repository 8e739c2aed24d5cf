from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.data import folder as folder_module
from edgedistill.data.datasets import load_dataset
from edgedistill.data.folder import load_folder
from edgedistill.documents.build_file import DataConfig


def faults(root: Path) -> dict[str, str]:
    """What `load_folder` finds wrong, by path relative to `root`."""
    with pytest.raises(InputError) as caught:
        load_folder(root)
    problems = caught.value.problems
    found = {Path(problem.where).relative_to(root).as_posix(): problem.what for problem in problems}
    assert len(found) == len(problems)
    assert all(problem.fix for problem in problems)
    return found


def test_a_folder_a_class_sorted_and_split(folders: Any) -> None:
    folders.add_classes("dog", "cat", count=20)
    folders.add("cat/deeper/x.jpg")
    dataset = load_dataset(DataConfig(source="folder", path=folders.root))
    assert dataset.name == "photos"
    assert dataset.classes == ("cat", "dog")
    assert np.bincount(dataset.labels).tolist() == [21, 20]
    assert dataset.splits.seed == 0
    assert len(dataset.splits.validation) == len(dataset.splits.test) == 6
    assert dataset.images[0].shape == (9, 12, 3)


def test_files_that_systems_leave_and_text_beside_classes_are_no_data(folders: Any) -> None:
    folders.add_classes("cat", "dog")
    (folders.root / "README.md").write_text("about")
    (folders.root / "cat" / ".DS_Store").write_bytes(b"x")
    (folders.root / ".git").mkdir()
    assert load_folder(folders.root).classes == ("cat", "dog")


def test_split_folders_are_kept_and_a_missing_one_drawn(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", count=20)
    folders.add_classes("val/cat", "val/dog", count=3)
    dataset = load_dataset(DataConfig(source="folder", path=folders.root))
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.splits.validation) == 6
    assert len(dataset.splits.test) == 6
    assert len(dataset.splits.train) == 34
    np.testing.assert_array_equal(dataset.splits.validation, np.arange(40, 46))


def test_a_class_called_train_among_others_is_a_class(folders: Any) -> None:
    folders.add_classes("bus", "train")
    assert load_folder(folders.root).classes == ("bus", "train")


def test_every_bad_file_is_listed_in_one_error(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=4)
    root = folders.root
    folders.add("beside.png")
    (root / "empty class").mkdir()
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "dog" / "also empty.png").write_bytes(b"")
    (root / "cat" / "notes.txt").write_text("x")
    (root / "cat" / "text.jpg").write_text("not an image")
    truncated = folders.add("dog/truncated.png", size=(60, 60))[0]
    truncated.write_bytes(truncated.read_bytes()[:2000])
    Image.new("1", (20_001, 2)).save(root / "dog" / "wide.png")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    shutil.copy(root / "cat" / "000.png", root / "cat" / "copy.png")
    shutil.copy(root / "cat" / "001.png", root / "dog" / "other class.png")

    found = faults(root)

    assert set(found) == {
        "beside.png",
        "empty class",
        "cat/empty.png",
        "dog/also empty.png",
        "cat/notes.txt",
        "cat/text.jpg",
        "dog/truncated.png",
        "dog/wide.png",
        "dog/gone.png",
        "cat/copy.png",
        "dog/other class.png",
    }
    assert "no label" in found["beside.png"]
    assert "without a file" in found["empty class"]
    assert found["cat/empty.png"] == found["dog/also empty.png"] == "is empty (0 bytes)"
    assert "not an image by its name" in found["cat/notes.txt"]
    assert "not an image" in found["cat/text.jpg"]
    assert "truncated" in found["dog/truncated.png"]
    assert "20001 x 2 pixels" in found["dog/wide.png"]
    assert "cannot be read" in found["dog/gone.png"]
    assert found["cat/copy.png"].endswith("cat/000.png")
    assert "under another class" in found["dog/other class.png"]


def test_a_copy_in_another_split_is_a_leak(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", "test/cat", "test/dog", count=3)
    shutil.copy(folders.root / "train/cat/000.png", folders.root / "test/cat/leak.png")
    assert "in another split" in faults(folders.root)["test/cat/leak.png"]


def test_classes_that_the_training_split_lacks(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", "test/cat", "test/horse", count=3)
    with pytest.raises(InputError, match="class horse is in test and has no training image"):
        load_folder(folders.root)


def test_images_without_classes_in_a_split_folder(folders: Any) -> None:
    folders.add("train/a.png", "train/b.png")
    with pytest.raises(InputError) as caught:
        load_folder(folders.root)
    assert "holds no images in class folders" in str(caught.value)
    assert sum("no label" in problem.what for problem in caught.value.problems) == 2


def test_one_class_is_too_few(folders: Any) -> None:
    folders.add_classes("cat")
    with pytest.raises(InputError, match="one class only, cat"):
        load_folder(folders.root)


def test_two_spellings_of_one_split(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", "val/cat", "valid/dog", count=2)
    with pytest.raises(InputError, match="second validation split"):
        load_folder(folders.root)


def test_a_sound_file_is_decoded_once_for_all_builds(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.add_classes("cat", "dog", count=3)
    decoded: list[Path] = []
    original = folder_module.find_fault

    def spy(path: Path) -> str:
        decoded.append(path)
        return original(path)

    monkeypatch.setattr(folder_module, "find_fault", spy)
    load_folder(folders.root)
    assert len(decoded) == 6
    folders.add("cat/new.png")
    load_folder(folders.root)
    assert decoded[6:] == [folders.root / "cat/new.png"]


def test_a_remembered_fault_is_reported_again(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    (folders.root / "cat" / "bad.png").write_text("x")
    assert faults(folders.root) == faults(folders.root)


def test_a_file_that_goes_away_during_a_build_is_named(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    loaded = load_folder(folders.root)
    (folders.root / "cat" / "000.png").unlink()
    with pytest.raises(InputError, match=r"000\.png can no longer be read"):
        loaded.images[0]
