"""Hashes of files, remembered as git's index does: a file of the same path, size, time and inode is not read again.

The memory is one SQLite file in the cache folder. It only saves time: where it cannot be opened, everything is hashed anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from edgedistill.base.errors import InputError
from edgedistill.base.paths import nearest
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import default_root, file_sha256
from edgedistill.data.threads import in_threads, told_if_slow
from edgedistill.data.tree import File, Tree, walk

MEMORY_FILE: Final = "content-hashes.sqlite"
_RACY_NS: Final = 2_000_000_000
_BATCH: Final = 500
"""Rows that one query looks up: fewer than the values that any SQLite takes at once."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, bytes INT, mtime_ns INT, inode INT, sha256 TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checked (checker TEXT, sha256 TEXT, fault TEXT, transparent INT, PRIMARY KEY (checker, sha256))
WITHOUT ROWID;
"""


class FileContent(NamedTuple):
    """What a file holds: its SHA-256 (hex), or why it cannot be read (`fault`)."""

    sha256: str
    fault: str = ""


class Verdict(NamedTuple):
    """Why a content cannot be used, empty if it can, and whether it is an image with pixels that are not opaque."""

    fault: str
    transparent: bool = False


@dataclass(frozen=True)
class Scan:
    """Everything below `folder`: its files and folders, and what each file holds, by its path."""

    folder: Path
    tree: Tree
    contents: dict[str, FileContent]

    def relative(self, path: str) -> str:
        """The part after the folder of a path below it."""
        return path[len(str(self.folder)) + 1 :]


def require_folder(path: Path, what: str) -> Path:
    """`path`, if it is a folder that can be listed. Raises InputError that says what it is instead."""
    try:
        with os.scandir(path):
            return path
    except FileNotFoundError:
        raise InputError(
            f"{what} {path} does not exist", fix=nearest(path, "check [data] path in the build file")
        ) from None
    except NotADirectoryError:
        raise InputError(f"{what} {path} is a file, not a folder", fix="name the folder that holds the data") from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}", fix="check its permissions") from None


def scan(folder: Path, listener: Listener = silent) -> Scan:
    """Look through a folder, and read the files that changed since that was last done. `listener` hears how far that is, if
    it takes long."""
    tree = walk(folder, listener)
    return Scan(folder, tree, content_hashes(tree.files, listener, folder.name))


def content_hashes(files: Sequence[File], listener: Listener = silent, subject: str = "") -> dict[str, FileContent]:
    """What each file holds, by its path. Files that did not change since they were last hashed are not read. `subject` is
    what the events for `listener` are about."""
    began_ns = time.time_ns()
    identities = {os.fsencode(file.path): file[1:4] for file in files if not file.fault}
    find = "SELECT path, bytes, mtime_ns, inode, sha256 FROM files WHERE path IN"
    known = {row[0]: row[4] for row in _look_up(find, (), list(identities)) if row[1:4] == identities[row[0]]}
    contents: dict[str, FileContent] = {}
    unknown: list[File] = []
    for file in files:
        if file.fault:
            contents[file.path] = FileContent("", file.fault)
        elif sha256 := known.get(os.fsencode(file.path)):
            contents[file.path] = FileContent(sha256)
        else:
            unknown.append(file)
    fresh: list[tuple[object, ...]] = []
    try:
        with (
            told_if_slow(listener, "hash", subject, len(unknown)) as advance,
            closing(in_threads(_read, unknown, advance)) as results,
        ):
            for file, content in zip(unknown, results, strict=True):
                contents[file.path] = content
                # A file that is written twice within its clock's tick (2 s on FAT) keeps its size and time. So a file as
                # young as that is hashed again next time: git's "racy" entries.
                if content.sha256 and file.mtime_ns < began_ns - _RACY_NS:
                    fresh.append((os.fsencode(file.path), *file[1:4], content.sha256))
    finally:
        # After an interruption as well: a long first scan goes on where it stopped.
        _remember("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", fresh)
    return contents


def known_verdicts(checker: str, hashes: Iterable[str]) -> dict[str, Verdict]:
    """What `checker` (a name with its version) found in contents before, by hash."""
    find = "SELECT sha256, fault, transparent FROM checked WHERE checker = ? AND sha256 IN"
    return {row[0]: Verdict(row[1], bool(row[2])) for row in _look_up(find, (checker,), list(hashes))}


def remember_verdicts(checker: str, found: Mapping[str, Verdict]) -> None:
    """Keep what `checker` found, by hash of the content."""
    rows = [(checker, sha256, verdict.fault, int(verdict.transparent)) for sha256, verdict in found.items()]
    _remember("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?)", rows)


def _read(file: File) -> FileContent:
    try:
        return FileContent(file_sha256(Path(file.path)))
    except OSError as error:
        return FileContent("", f"cannot be read: {error.strerror}")


def _look_up(query: str, first: tuple[object, ...], keys: Sequence[object]) -> Iterator[tuple[Any, ...]]:
    """The rows of a query that ends with IN, for all `keys`; `first` are the values of its other marks."""
    with closing(_connect()) as memory:
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            yield from memory.execute(f"{query} ({', '.join('?' * len(some))})", (*first, *some))


def _remember(statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    if not rows:
        return
    # Locked by another build for longer than the timeout, or a full disk: the next build hashes again.
    with closing(_connect()) as memory, suppress(sqlite3.OperationalError):
        memory.executemany(statement, rows)
        memory.commit()


def _connect() -> sqlite3.Connection:
    """The memory; an empty one in RAM where the file cannot be used."""
    file = default_root() / MEMORY_FILE
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
