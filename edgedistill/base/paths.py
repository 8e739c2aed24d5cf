"""Paths that a user gives and that are not there."""

from __future__ import annotations

import difflib
import os
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


def nearest(path: Path, otherwise: str) -> str:
    """`did you mean photos?`, by what lies beside a path that is not there; `otherwise` where nothing has a name like it."""
    names: list[str] = []
    with suppress(OSError, ValueError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in islice(entries, _LOOKED_AT)]
    near = difflib.get_close_matches(path.name, sorted(names), 1)
    return f"did you mean {path.parent / near[0]}?" if near else otherwise
