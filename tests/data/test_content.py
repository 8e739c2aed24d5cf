from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.store import default_root, file_sha256
from edgedistill.data import content
from edgedistill.data.content import (
    FileContent,
    Verdict,
    content_hashes,
    known_verdicts,
    remember_verdicts,
    require_folder,
    scan,
)
from edgedistill.data.tree import look


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose content was read."""
    read: list[Path] = []

    def spy(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(content, "file_sha256", spy)
    return read


def content_of(path: Path) -> FileContent:
    return content_hashes([look(str(path), path.stat)])[str(path)]


def age(path: Path, seconds: float) -> None:
    then_ns = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(then_ns, then_ns))


def test_an_unchanged_file_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    age(path, 60)
    expected = hashlib.sha256(b"first").hexdigest()
    assert content_of(path).sha256 == expected
    assert content_of(path).sha256 == expected
    assert reads == [path]


def test_a_file_changed_in_place_with_equal_size_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    age(path, 60)
    content_of(path)
    path.write_bytes(b"other")
    assert content_of(path).sha256 == hashlib.sha256(b"other").hexdigest()


def test_a_file_replaced_with_its_size_and_time_kept_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    path, newer = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"first")
    newer.write_bytes(b"other")
    age(path, 60)
    os.utime(newer, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    content_of(path)
    newer.replace(path)
    assert content_of(path).sha256 == hashlib.sha256(b"other").hexdigest()


def test_a_file_too_young_to_tell_a_second_write_is_not_remembered(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    status = path.stat()
    content_of(path)
    path.write_bytes(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_of(path).sha256 == hashlib.sha256(b"other").hexdigest()


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    broken = tmp_path / "link"
    broken.symlink_to(tmp_path / "nowhere")
    found = content_of(broken)
    assert found.sha256 == ""
    assert found.fault == "is a link to a file that does not exist"


def test_a_name_that_is_no_text_is_hashed_like_any(tmp_path: Path, reads: list[Path]) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        path.write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    age(path, 60)
    content_of(path)
    content_of(path)
    assert len(reads) == 1


def test_a_damaged_memory_is_made_anew(tmp_path: Path) -> None:
    memory = default_root() / content.MEMORY_FILE
    memory.parent.mkdir(parents=True)
    memory.write_bytes(b"this is no database, and long enough to be looked at " * 20)
    remember_verdicts("checker 1", {"aa": Verdict("bad")})
    assert known_verdicts("checker 1", ["aa"]) == {"aa": ("bad", False)}


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    path = tmp_path / "a"
    path.write_bytes(b"x")
    assert content_of(path).sha256 == hashlib.sha256(b"x").hexdigest()


def test_verdicts_belong_to_their_checker() -> None:
    remember_verdicts("checker 1", {"aa": Verdict("bad"), "bb": Verdict("", True)})
    assert known_verdicts("checker 1", ["aa", "bb", "cc"]) == {"aa": ("bad", False), "bb": ("", True)}
    assert known_verdicts("checker 2", ["aa"]) == {}


def old_files(folder: Path, count: int) -> list[Path]:
    """Files of different content that are old enough to be remembered."""
    folder.mkdir()
    paths = [folder / f"{number:03}" for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode())
        age(path, 60)
    return paths


def test_a_second_scan_reads_the_changed_files_alone(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_BATCH", 3)
    paths = old_files(tmp_path / "data", 10)
    first = scan(tmp_path / "data")
    assert sorted(reads) == paths
    assert first.contents == {str(p): FileContent(hashlib.sha256(p.name.encode()).hexdigest()) for p in paths}
    paths[4].write_bytes(b"other")
    again = scan(tmp_path / "data")
    assert reads[10:] == [paths[4]]
    assert {path for path in first.contents if first.contents[path] != again.contents[path]} == {str(paths[4])}


def test_an_interrupted_scan_goes_on_where_it_stopped(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = old_files(tmp_path / "data", 40)
    read = content.file_sha256

    def interrupted(path: Path) -> str:
        if path == paths[30]:
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(content, "file_sha256", interrupted)
        scan(tmp_path / "data")
    reads.clear()
    scan(tmp_path / "data")
    # Sixteen files are read at a time: the first of these parts was finished, the second interrupted.
    assert sorted(reads) == paths[16:]


def test_a_memory_that_another_process_holds_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(content.sqlite3, "connect", lambda file, timeout=0.0: connect(file, timeout=0.01))
    (path,) = old_files(tmp_path / "data", 1)
    remember_verdicts("checker 1", {"aa": Verdict("bad")})
    with closing(connect(default_root() / content.MEMORY_FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert content_of(path).sha256 == hashlib.sha256(b"000").hexdigest()
        remember_verdicts("checker 1", {"bb": Verdict("bad")})
    assert known_verdicts("checker 1", ["aa", "bb"]) == {"aa": ("bad", False)}


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert content_of(pipe) == FileContent("", "is no regular file")


def test_require_folder_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="does not exist"):
        require_folder(tmp_path / "nothing", "the data folder")
    with pytest.raises(InputError, match="is a file, not a folder"):
        require_folder(tmp_path / "file", "the data folder")
