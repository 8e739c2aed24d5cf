from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Listener, Note, StageAdvanced, StageFinished, StageStarted, silent
from edgedistill.data import checking, threads
from edgedistill.data.content import Verdict, scan
from edgedistill.data.datasets import load_dataset
from edgedistill.data.folder import FolderImages, load_folder
from edgedistill.data.sources import Loaded
from edgedistill.documents.build_file import DataConfig


def paths(loaded: Loaded) -> list[str]:
    assert isinstance(loaded.images, FolderImages)
    return list(loaded.images.paths)


def load(root: Path, listener: Listener = silent) -> Loaded:
    return load_folder(scan(root), DataConfig(source="folder", path=root), listener)


def warnings_of(root: Path) -> list[str]:
    """What is told of a folder that can be used."""
    heard: list[Any] = []
    load(root, heard.append)
    assert all(isinstance(event, Note) and event.warning for event in heard)
    return [event.text for event in heard]


def faults(root: Path) -> dict[str, str]:
    """What `load_folder` finds wrong, by path relative to `root`."""
    with pytest.raises(InputError) as caught:
        load(root)
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
    assert load(folders.root).classes == ("cat", "dog")


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
    assert load(folders.root).classes == ("bus", "train")


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
    }
    assert "no label" in found["beside.png"]
    assert "without a file" in found["empty class"]
    assert found["cat/empty.png"] == found["dog/also empty.png"] == "is empty (0 bytes)"
    assert "not an image by its name" in found["cat/notes.txt"]
    assert "not an image" in found["cat/text.jpg"]
    assert "truncated" in found["dog/truncated.png"]
    assert "20001 x 2 pixels" in found["dog/wide.png"]
    assert found["dog/gone.png"] == "is a link to a file that does not exist"


def test_an_image_above_the_limit_is_a_fault_and_no_warning(folders: Any, recwarn: pytest.WarningsRecorder) -> None:
    """Pillow itself writes a warning of it to the terminal."""
    folders.add_classes("cat", "dog", count=3)
    Image.new("1", (10_000, 9_500)).save(folders.root / "dog" / "large.png")
    assert "is 10000 x 9500 pixels" in faults(folders.root)["dog/large.png"]
    assert not [warning for warning in recwarn if issubclass(warning.category, Image.DecompressionBombWarning)]


def test_copies_in_another_class_are_told_by_name_and_others_counted(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=9)
    for number in range(7):
        shutil.copy(folders.root / f"cat/00{number}.png", folders.root / f"dog/copy{number}.png")
    shutil.copy(folders.root / "dog/008.png", folders.root / "dog/again.png")
    in_class, same = warnings_of(folders.root)
    assert in_class.startswith(
        "7 files have the same content as one in another class; keep the one whose class is right"
    )
    assert "dog/copy0.png = cat/000.png, dog/copy1.png = cat/001.png" in in_class
    assert in_class.endswith(" and 2 more")
    assert same == "1 file has the same content as one in the same class; each of them counts"
    assert len(load(folders.root).labels) == 26


def test_copies_in_another_split_are_told_by_name(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", "test/cat", "test/dog", count=3)
    shutil.copy(folders.root / "train/cat/000.png", folders.root / "test/cat/leak.png")
    (told,) = warnings_of(folders.root)
    assert "1 file has the same content as one in another split" in told
    assert told.endswith("test/cat/leak.png = train/cat/000.png")


def test_damaged_files_are_no_copies_of_one_another(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    for name in ("cat/a.png", "dog/b.png"):
        (folders.root / name).write_bytes(b"")
    heard: list[Any] = []
    with pytest.raises(InputError, match="2 problems"):
        load(folders.root, heard.append)
    assert heard == []


def test_of_many_problems_some_are_shown(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    for number in range(200):
        (folders.root / "cat" / f"{number}.jpg").write_bytes(b"")
    folders.add("stray.png")
    with pytest.raises(InputError) as caught:
        load(folders.root)
    lines = str(caught.value).splitlines()
    assert len(lines) == 13
    assert "201 problems" in lines[0]
    assert any("stray.png: has no label" in line for line in lines)
    assert "and 191 more such" in [line.strip() for line in lines]
    assert Path(lines[-1].removeprefix("fix: ").split(" lists all")[0]).read_text().count("\n") == 201


def test_names_of_all_kinds(folders: Any) -> None:
    folders.add("größe ß/ein bild.PNG", "größe ß/b.JPeG", "日本/图 (1).TIF", "日本/.hidden.png", "日本/a.b.c.Png")
    for name in ("Thumbs.db", ".DS_Store", "größe ß/THUMBS.DB", "größe ß/._b.JPeG", "日本/desktop.ini"):
        (folders.root / name).write_bytes(b"x")
    (folders.root / "__MACOSX" / "日本").mkdir(parents=True)
    (folders.root / "__MACOSX" / "日本" / "._a.png").write_bytes(b"x")
    loaded = load(folders.root)
    assert loaded.classes == ("größe ß", "日本")
    assert [Path(path).name for path in paths(loaded)] == ["b.JPeG", "ein bild.PNG", "a.b.c.Png", "图 (1).TIF"]


def test_a_class_whose_name_is_no_text_is_an_error(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=2)
    name = os.fsdecode(b"caf\xe9")
    try:
        folders.add(f"{name}/a.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(InputError, match="not UTF-8 text"):
        load(folders.root)


def test_pictures_of_unknown_kinds_are_listed(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=2)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    (folders.root / "cat" / "phone.HEIC").write_bytes(heic)
    (folders.root / "cat" / "renamed.jpg").write_bytes(heic)
    found = faults(folders.root)
    assert found == {
        "cat/phone.HEIC": "is not an image by its name",
        "cat/renamed.jpg": "is not an image in a format that Pillow reads",
    }


def test_classes_with_one_or_two_images(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=20)
    folders.add("rare/a.png", "pair/a.png", "pair/b.png")
    dataset = load_dataset(DataConfig(source="folder", path=folders.root))
    trained = {dataset.classes[label] for label in dataset.labels[dataset.splits.train]}
    assert trained == {"cat", "dog", "pair", "rare"}


def test_a_class_folder_in_a_class_folder_belongs_to_the_outer_one(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    folders.add("cat/dog/a.png", "cat/young/b.png")
    (told,) = warnings_of(folders.root)
    assert told.endswith("cat/dog counts as cat")
    assert np.bincount(load(folders.root).labels).tolist() == [5, 3]


def test_classes_one_folder_deeper_are_pointed_at(folders: Any) -> None:
    folders.add_classes("photos/cat", "photos/dog", count=2)
    with pytest.raises(InputError) as caught:
        load(folders.root)
    (problem,) = caught.value.problems
    assert problem.what == "has one class only, photos"
    assert problem.fix.endswith(f"if the folders in photos are the classes, give {folders.root / 'photos'}")


def test_links_back_are_no_data(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    (folders.root / "bird").symlink_to(folders.root)
    (folders.root / "cat" / "up").symlink_to(folders.root.parent)
    assert load(folders.root).classes == ("cat", "dog")
    assert warnings_of(folders.root) == []


def test_links_out_of_the_folder_are_data(folders: Any) -> None:
    folders.add_classes("cat", count=3)
    outside = folders.root.parent / "outside"
    shutil.copytree(folders.add("dog/0.png", "dog/1.png")[0].parent, outside)
    shutil.rmtree(folders.root / "dog")
    (folders.root / "dog").symlink_to(outside)
    loaded = load(folders.root)
    assert loaded.classes == ("cat", "dog")
    assert loaded.images[4].shape == (9, 12, 3)


def test_classes_are_sorted_by_name_and_their_images_by_path(folders: Any) -> None:
    folders.add_classes("cat", "cat-big", "cat (old)", count=2)
    folders.add("cat/0/x.png")
    loaded = load(folders.root)
    assert loaded.classes == ("cat", "cat (old)", "cat-big")
    assert [os.path.relpath(path, folders.root) for path in paths(loaded)] == [
        "cat/0/x.png",
        "cat/000.png",
        "cat/001.png",
        "cat (old)/000.png",
        "cat (old)/001.png",
        "cat-big/000.png",
        "cat-big/001.png",
    ]


def test_a_split_folder_without_classes(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", count=3)
    (folders.root / "val").mkdir()
    assert faults(folders.root) == {"val": "is a split without a class folder"}


def test_a_long_check_is_told_step_by_step(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.add_classes("cat", "dog", count=10)
    heard: list[Any] = []
    monkeypatch.setattr(threads, "SECONDS_UNTOLD", 600.0)
    load_dataset(DataConfig(source="folder", path=folders.root), heard.append)
    assert heard == [], "nothing that was quick"
    shutil.rmtree(folders.root)
    folders.add_classes("cat", "dog", count=10)
    monkeypatch.setattr(threads, "SECONDS_UNTOLD", 0.0)
    load_dataset(DataConfig(source="folder", path=folders.root), heard.append)
    told = [(event.stage, event.total) for event in heard if isinstance(event, StageStarted)]
    assert told == [("scan", None), ("hash", 20), ("decode", 20)]
    assert [event.stage for event in heard if isinstance(event, StageFinished)] == ["scan", "hash", "decode"]
    assert all(event.done > 0 for event in heard if isinstance(event, StageAdvanced) and event.stage != "scan")


def test_classes_that_the_training_split_lacks(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", "test/cat", "test/horse", count=3)
    with pytest.raises(InputError, match="class horse is in test and has no training image"):
        load(folders.root)


def test_images_without_classes_in_a_split_folder(folders: Any) -> None:
    folders.add("train/a.png", "train/b.png")
    with pytest.raises(InputError) as caught:
        load(folders.root)
    assert "holds no images in class folders" in str(caught.value)
    assert sum("no label" in problem.what for problem in caught.value.problems) == 2


def test_one_class_is_too_few(folders: Any) -> None:
    folders.add_classes("cat")
    with pytest.raises(InputError, match="one class only, cat"):
        load(folders.root)


def test_two_spellings_of_one_split(folders: Any) -> None:
    folders.add_classes("train/cat", "train/dog", "val/cat", "valid/dog", count=2)
    with pytest.raises(InputError, match="second validation split"):
        load(folders.root)


def test_a_sound_file_is_decoded_once_for_all_builds(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.add_classes("cat", "dog", count=3)
    decoded: list[Path] = []
    original = checking.check_image

    def spy(path: Path) -> Verdict:
        decoded.append(path)
        return original(path)

    monkeypatch.setattr(checking, "check_image", spy)
    load(folders.root)
    assert len(decoded) == 6
    folders.add("cat/new.png")
    load(folders.root)
    assert decoded[6:] == [folders.root / "cat/new.png"]


def test_a_remembered_fault_is_reported_again(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    (folders.root / "cat" / "bad.png").write_text("x")
    assert faults(folders.root) == faults(folders.root)


def test_a_file_that_goes_away_during_a_build_is_named(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    loaded = load(folders.root)
    (folders.root / "cat" / "000.png").unlink()
    with pytest.raises(InputError, match=r"000\.png can no longer be read"):
        loaded.images[0]


def test_the_error_says_how_to_leave_broken_files_out(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    (folders.root / "cat" / "bad.png").write_text("x")
    with pytest.raises(InputError) as caught:
        load(folders.root)
    assert "--skip-broken" in str(caught.value)
    (folders.root / "cat" / "bad.png").unlink()
    folders.add("stray.png")
    with pytest.raises(InputError) as caught:
        load(folders.root)
    assert "--skip-broken" not in str(caught.value), "a picture without a label is not broken"


def skipping(root: Path, listener: Listener = silent) -> Loaded:
    return load_folder(scan(root), DataConfig(source="folder", path=root, skip_broken=True), listener)


def test_broken_files_are_left_out_and_listed_where_that_is_asked_for(folders: Any, tmp_path: Path) -> None:
    folders.add_classes("cat", "dog", count=3)
    plain = load(folders.root)
    (folders.root / "cat" / "bad.png").write_text("x")
    (folders.root / "cat" / "empty.jpg").write_bytes(b"")
    (folders.root / "dog" / "notes.txt").write_text("x")
    heard: list[Any] = []
    found = skipping(folders.root, heard.append)
    assert found.images.paths == plain.images.paths  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found.labels, plain.labels)
    (note,) = heard
    assert note.warning and note.text.startswith("3 files are left out: cat/bad.png is not an image in a format")
    assert (tmp_path / "cache" / "data-problems.txt").read_text().count("\n") == 3


def test_what_is_not_a_broken_file_stays_an_error(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=2)
    folders.add("stray.png")
    (folders.root / "horse").mkdir()
    with pytest.raises(InputError) as caught:
        skipping(folders.root)
    assert {Path(problem.where).name for problem in caught.value.problems} == {"stray.png", "horse"}


@pytest.mark.parametrize("broken", ["train/dog", "validation"])
def test_no_class_or_split_vanishes_with_its_broken_files(folders: Any, broken: str) -> None:
    folders.add_classes("train/cat", "train/dog", "validation/cat", "validation/dog", count=2)
    for path in (folders.root / broken).rglob("*.png"):
        path.write_text("x")
    with pytest.raises(InputError) as caught:
        skipping(folders.root)
    place = "class dog" if broken == "train/dog" else "validation split"
    assert [problem.what for problem in caught.value.problems] == [f"no image of the {place} can be used"]


def test_how_many_images_are_transparent_is_told(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=3)
    Image.new("RGBA", (5, 4), (0, 0, 0, 0)).save(folders.root / "cat" / "clear.png")
    heard: list[Any] = []
    config = DataConfig.model_validate({"source": "folder", "path": folders.root, "background": "#0000FF"})
    loaded = load_folder(scan(folders.root), config, heard.append)
    assert [event.text for event in heard] == [
        "1 of 7 images are transparent in parts: they are put on #0000ff ([data] background)"
    ]
    assert loaded.images[3].tolist() == np.full((4, 5, 3), (0, 0, 255)).tolist()
    heard.clear()
    load_folder(scan(folders.root), config, heard.append)
    assert len(heard) == 1, "it is remembered with the verdict"
