from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgedistill.data import tree as tree_module
from edgedistill.data.tree import Tree, is_hidden, walk


def names(root: Path, found: Tree) -> tuple[list[str], list[str]]:
    files, folders = [file.path for file in found.files], list(found.folders)
    return [os.path.relpath(path, root) for path in files], [os.path.relpath(path, root) for path in folders]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


LEFT_BEHIND = [".DS_Store", "._a.jpg", "Thumbs.db", "THUMBS.DB", "desktop.ini", "__MACOSX", "@eaDir"]


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_systems_leave_behind_is_hidden(name: str) -> None:
    assert is_hidden(name)
    assert not is_hidden(f"a{name}")


def test_walk_follows_links_and_leaves_out_hidden_names(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", tmp_path / "outside"
    touch(root / "a/1.png", root / "a/.DS_Store", root / "a/Thumbs.db", root / "__MACOSX/a/._1.png", outside / "2.png")
    (root / "b").symlink_to(outside)
    (root / "a" / "3.png").symlink_to(outside / "2.png")
    found = walk(root)
    assert names(root, found) == (["a/1.png", "a/3.png", "b/2.png"], ["a", "b"])
    assert found.files[2].inode == (outside / "2.png").stat().st_ino
    assert not found.unreadable


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    touch(root / "a/1.png", root / "b/deep/2.png", tmp_path / "beside.png")
    (root / "a" / "round").symlink_to(root)
    (root / "b" / "deep" / "up").symlink_to(root / "b", target_is_directory=True)
    (root / "c").symlink_to(tmp_path)  # above the data folder: everything beside it would count
    assert names(root, walk(root)) == (["a/1.png", "b/deep/2.png"], ["a", "b", "b/deep"])


def test_links_of_folders_to_one_another_end(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", tmp_path / "outside"
    touch(root / "a/1.png", root / "b/2.png", outside / "inner/3.png")
    (root / "a" / "x").symlink_to(root / "b")
    (root / "b" / "y").symlink_to(root / "a")
    (root / "c").symlink_to(outside / "inner")
    (outside / "inner" / "z").symlink_to(outside)  # leads back from where the link leads
    files, _ = names(root, walk(root))
    assert files == ["a/1.png", "a/x/2.png", "b/2.png", "b/y/1.png", "c/3.png"]


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (file,) = walk(tmp_path).files
    assert "cannot be read" in file.fault


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a/1.png", tmp_path / "locked/2.png")
    scandir = os.scandir

    def locked(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(tree_module.os, "scandir", locked)
    found = walk(tmp_path)
    assert names(tmp_path, found) == (["a/1.png"], ["a", "locked"])
    assert found.unreadable == {str(tmp_path / "locked"): "cannot be read: Permission denied"}
