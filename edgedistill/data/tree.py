"""What lies below a folder: its files, with what tells whether they changed, and its folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from edgedistill.base.progress import Listener, silent
from edgedistill.data.threads import told_if_slow

_DROPPINGS: Final = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"))
_LARGEST: Final = 2**63 - 1
"""SQLite's largest integer. Some file systems number beyond it."""


class File(NamedTuple):
    """A file as it was found: what tells whether it changed, or why it cannot be read (`fault`)."""

    path: str
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0
    fault: str = ""


@dataclass(frozen=True)
class Tree:
    """Files and folders below a folder, each sorted by path, and why folders could not be listed, by path. Texts, not
    Paths: of a million files, making and comparing Paths would take longer than everything else."""

    files: tuple[File, ...]
    folders: tuple[str, ...]
    unreadable: dict[str, str]


def is_hidden(name: str) -> bool:
    """Whether systems leave such a file or folder behind, not meant as data: dot files, Thumbs.db and their like."""
    return name.startswith(".") or name.lower() in _DROPPINGS


def look(path: str, status: Callable[[], os.stat_result]) -> File:
    """The file at `path`, whose status `status` returns or raises OSError."""
    try:
        found = status()
    except FileNotFoundError:
        return File(path, fault="is a link to a file that does not exist")
    except OSError as error:
        return File(path, fault=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return File(path, fault="is no regular file")
    return File(path, found.st_size, found.st_mtime_ns, found.st_ino & _LARGEST)


def walk(folder: Path, listener: Listener = silent) -> Tree:
    """Everything below `folder` but hidden names. Links to folders are followed, unless they lead back to a folder that they
    lie in, or to one above that. A broken link counts as a file, which then cannot be read."""
    files: list[File] = []
    folders: list[str] = []
    unreadable: dict[str, str] = {}
    waiting = [(str(folder), _identities(folder))]
    with told_if_slow(listener, "scan", folder.name) as advance:
        while waiting:
            current, above = waiting.pop()
            try:
                with os.scandir(current) as entries:
                    for entry in entries:
                        if is_hidden(entry.name):
                            continue
                        if not _is_folder(entry):
                            files.append(look(entry.path, entry.stat))
                        elif (around := _around(entry, above)) is not None:
                            folders.append(entry.path)
                            waiting.append((entry.path, around))
            except OSError as error:
                unreadable[current] = f"cannot be read: {error.strerror}"
            advance(len(files))
    return Tree(tuple(sorted(files, key=itemgetter(0))), tuple(sorted(folders)), unreadable)


Identities = frozenset[tuple[int, int]]
"""Folders by device and inode."""


def _identities(folder: Path) -> Identities:
    """Those of a folder and of all that it lies in."""
    real = folder.resolve()
    return frozenset((found.st_dev, found.st_ino) for found in (one.stat() for one in (real, *real.parents)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also of a link to a folder. A link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _around(entry: os.DirEntry[str], above: Identities) -> Identities | None:
    """What the content of a folder lies in; None for a folder that lies in itself, by a link."""
    found = entry.stat()
    identity = (found.st_dev, found.st_ino)
    if identity in above:
        return None
    return above | (_identities(Path(entry.path)) if entry.is_symlink() else {identity})
