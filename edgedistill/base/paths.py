"""Paths that a user gives: those that are not there, and those that cannot be written."""

from __future__ import annotations

import difflib
import os
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

from edgedistill.base.errors import InputError

_LOOKED_AT = 10_000
"""Names in a folder: more than a person chooses from."""


def require_file(path: Path, fix: str) -> None:
    """Raises InputError where `path` is no file, with what it is instead and the nearest name beside it, else `fix`."""
    if path.is_dir():
        raise InputError(f"{path} is a folder", fix=fix)
    if not path.is_file():
        raise InputError(f"{path} does not exist", fix=nearest(path, fix))


def require_writable(path: Path) -> None:
    """Raises InputError where no file can be written at `path`, before work is done whose result would be lost."""
    folder = path.absolute().parent
    if path.is_dir():
        what = "is a folder"
    elif not folder.is_dir():
        what = f"lies in a folder that there is not, {folder}"
    else:
        try:
            # Permissions do not tell all: they are no matter to root, and a file system may be full or read-only.
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b" ")
            return
        except OSError as error:
            what = f"lies in a folder that cannot be written to, {folder}: {error.strerror}"
    raise InputError(f"{path} {what}", fix="give the path of a file in a folder of yours that exists")


def nearest(path: Path, otherwise: str) -> str:
    """`did you mean photos?`, by what lies beside a path that is not there; `otherwise` where nothing has a name like it."""
    names: list[str] = []
    with suppress(OSError, ValueError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in islice(entries, _LOOKED_AT)]
    near = difflib.get_close_matches(path.name, sorted(names), 1)
    return f"did you mean {path.parent / near[0]}?" if near else otherwise
