from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.store import default_root, file_sha256
from edgedistill.data import content
from edgedistill.data.content import content_hashes, known_verdicts, remember_verdicts, require_folder, walk


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose content was read."""
    read: list[Path] = []

    def spy(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(content, "file_sha256", spy)
    return read


def age(path: Path, seconds: float) -> None:
    then_ns = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(then_ns, then_ns))


def test_an_unchanged_file_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    age(path, 60)
    expected = hashlib.sha256(b"first").hexdigest()
    assert content_hashes([str(path)])[str(path)].sha256 == expected
    assert content_hashes([str(path)])[str(path)].sha256 == expected
    assert reads == [path]


def test_a_file_changed_in_place_with_equal_size_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    age(path, 60)
    content_hashes([str(path)])
    path.write_bytes(b"other")
    assert content_hashes([str(path)])[str(path)].sha256 == hashlib.sha256(b"other").hexdigest()


def test_a_file_replaced_with_its_size_and_time_kept_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    path, newer = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"first")
    newer.write_bytes(b"other")
    age(path, 60)
    os.utime(newer, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    content_hashes([str(path)])
    newer.replace(path)
    assert content_hashes([str(path)])[str(path)].sha256 == hashlib.sha256(b"other").hexdigest()


def test_a_file_too_young_to_tell_a_second_write_is_not_remembered(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    status = path.stat()
    content_hashes([str(path)])
    path.write_bytes(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_hashes([str(path)])[str(path)].sha256 == hashlib.sha256(b"other").hexdigest()


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    broken = tmp_path / "link"
    broken.symlink_to(tmp_path / "nowhere")
    found = content_hashes([str(broken)])[str(broken)]
    assert found.sha256 == ""
    assert "No such file" in found.fault


def test_a_name_that_is_no_text_is_hashed_like_any(tmp_path: Path, reads: list[Path]) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        path.write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    age(path, 60)
    content_hashes([str(path)])
    content_hashes([str(path)])
    assert len(reads) == 1


def test_a_damaged_memory_is_made_anew(tmp_path: Path) -> None:
    memory = default_root() / content.MEMORY_FILE
    memory.parent.mkdir(parents=True)
    memory.write_bytes(b"this is no database, and long enough to be looked at " * 20)
    remember_verdicts("checker 1", {"aa": "bad"})
    assert known_verdicts("checker 1", ["aa"]) == {"aa": "bad"}


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    path = tmp_path / "a"
    path.write_bytes(b"x")
    assert content_hashes([str(path)])[str(path)].sha256 == hashlib.sha256(b"x").hexdigest()


def test_verdicts_belong_to_their_checker() -> None:
    remember_verdicts("checker 1", {"aa": "bad", "bb": ""})
    assert known_verdicts("checker 1", ["aa", "bb", "cc"]) == {"aa": "bad", "bb": ""}
    assert known_verdicts("checker 2", ["aa"]) == {}


def test_walk_follows_links_once_and_leaves_out_hidden_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.png").write_bytes(b"x")
    (root / "a" / ".DS_Store").write_bytes(b"x")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / "round").symlink_to(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "2.png").write_bytes(b"x")
    (root / "b").symlink_to(outside)
    tree = walk(root)
    assert [os.path.relpath(path, root) for path in tree.files] == ["a/1.png", "b/2.png"]
    assert [os.path.relpath(path, root) for path in tree.folders] == ["a", "b"]


def test_require_folder_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="does not exist"):
        require_folder(tmp_path / "nothing", "the data folder")
    with pytest.raises(InputError, match="is a file, not a folder"):
        require_folder(tmp_path / "file", "the data folder")
