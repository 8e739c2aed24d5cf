"""Hashes of files, remembered as git's index does: a file of the same path, size, time and inode is not read again.

The memory is one SQLite file in the cache folder. It only saves time: where it cannot be opened, everything is hashed anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from edgedistill.base.errors import InputError
from edgedistill.base.store import default_root, file_sha256

MEMORY_FILE: Final = "content-hashes.sqlite"
_RACY_NS: Final = 2_000_000_000
_DROPPINGS: Final = frozenset(("Thumbs.db", "desktop.ini", "__MACOSX"))
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, bytes INT, mtime_ns INT, inode INT, sha256 TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (checker TEXT, sha256 TEXT, fault TEXT, PRIMARY KEY (checker, sha256)) WITHOUT ROWID;
"""


class FolderContent(NamedTuple):
    """What a file holds: its SHA-256 (hex), or why it cannot be read (`fault`)."""

    sha256: str
    fault: str = ""


@dataclass(frozen=True)
class Tree:
    """Files and folders below a folder, each sorted by path. Texts, not Paths: of a million files, making and
    comparing Paths would take longer than everything else."""

    files: tuple[str, ...]
    folders: tuple[str, ...]


def require_folder(path: Path, what: str) -> Path:
    """`path`, if it is a folder that can be listed. Raises InputError that says what it is instead."""
    try:
        with os.scandir(path):
            return path
    except FileNotFoundError:
        raise InputError(f"{what} {path} does not exist", fix="check [data] path in the build file") from None
    except NotADirectoryError:
        raise InputError(f"{what} {path} is a file, not a folder", fix="name the folder that holds the data") from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}", fix="check its permissions") from None


def is_hidden(name: str) -> bool:
    """Files that systems leave behind and that are not meant as data: dot files, Thumbs.db and their like."""
    return name.startswith(".") or name in _DROPPINGS


def walk(folder: Path) -> Tree:
    """Everything below `folder` but hidden names. Links to folders are followed, each folder once, so that a link to a
    parent ends; a broken link counts as a file, which then cannot be read."""
    files: list[str] = []
    folders: list[str] = []
    seen = {os.path.realpath(folder)}
    for current, subfolders, names in os.walk(folder, followlinks=True):
        kept = []
        for name in subfolders:
            inner = f"{current}{os.sep}{name}"
            real = os.path.realpath(inner)
            if not is_hidden(name) and real not in seen:
                seen.add(real)
                kept.append(name)
                folders.append(inner)
        subfolders[:] = kept
        files += [f"{current}{os.sep}{name}" for name in names if not is_hidden(name)]
    return Tree(tuple(sorted(files)), tuple(sorted(folders)))


def content_hashes(files: Sequence[str]) -> dict[str, FolderContent]:
    """What each file, by its absolute path, holds. Files that did not change since they were last hashed are not read."""
    result: dict[str, FolderContent] = {}
    fresh: list[tuple[bytes, int, int, int, str]] = []
    with _memory() as memory:
        find = "SELECT sha256 FROM files WHERE path = ? AND bytes = ? AND mtime_ns = ? AND inode = ?"
        for path in files:
            try:
                began_ns = time.time_ns()
                status = os.stat(path)  # noqa: PTH116 - see Tree
                identity = (os.fsencode(path), status.st_size, status.st_mtime_ns, status.st_ino)
                known = memory.execute(find, identity).fetchone()
                sha256 = known[0] if known else file_sha256(Path(path))
            except OSError as error:
                result[path] = FolderContent("", f"cannot be read: {error.strerror}")
                continue
            result[path] = FolderContent(sha256)
            # A file that is written twice within its clock's tick (2 s on FAT) keeps its size and time. So a file as young
            # as that is hashed again next time: git's "racy" entries.
            if not known and status.st_mtime_ns < began_ns - _RACY_NS:
                fresh.append((*identity, sha256))
        memory.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", fresh)
    return result


def known_verdicts(checker: str, hashes: Iterable[str]) -> dict[str, str]:
    """Faults that `checker` (a name with its version) found in contents before, empty for a sound one, by hash."""
    find = "SELECT fault FROM verdicts WHERE checker = ? AND sha256 = ?"
    with _memory() as memory:
        found = {sha256: memory.execute(find, (checker, sha256)).fetchone() for sha256 in hashes}
    return {sha256: row[0] for sha256, row in found.items() if row}


def remember_verdicts(checker: str, faults: Mapping[str, str]) -> None:
    """Keep what `checker` found, by hash of the content."""
    with _memory() as memory:
        rows = [(checker, sha256, fault) for sha256, fault in faults.items()]
        memory.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", rows)


@contextmanager
def _memory() -> Iterator[sqlite3.Connection]:
    """The memory as one transaction; an empty one in RAM where the file cannot be used."""
    with closing(_connect(default_root() / MEMORY_FILE)) as connection:
        yield connection
        try:
            connection.commit()
        except sqlite3.OperationalError:
            # Locked by another build for longer than the timeout, or a full disk: the next build hashes again.
            connection.rollback()


def _connect(file: Path) -> sqlite3.Connection:
    for attempt in range(2):
        connection = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(file, timeout=10)
            connection.executescript(_TABLES)
            return connection
        except (sqlite3.DatabaseError, OSError) as error:
            if connection is not None:
                connection.close()
            code = getattr(error, "sqlite_errorcode", None)
            if attempt or code not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                break
            file.unlink(missing_ok=True)
    connection = sqlite3.connect(":memory:")
    connection.executescript(_TABLES)
    return connection
