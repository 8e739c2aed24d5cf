"""Whether a package still is what was built: the hash of every file in it, in a form that `sha256sum -c` reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgedistill.base.errors import Problem
from edgedistill.base.store import file_sha256

SUMS: Final = "SHA256SUMS"
FIX: Final = "copy the package again, or run the same build again: it makes it anew from what is in the cache"
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^\\\n]+)")


def write_sums(package: Path) -> None:
    """`SHA256SUMS`: a line for each file of the package, those inside folders too."""
    lines = (f"{file_sha256(package / name)}  {name}\n" for name in sorted(_names(package)))
    (package / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(package: Path) -> tuple[Problem, ...]:
    """What of a package is missing, changed, or not of it. Empty if all is well. Raises nothing for bad content."""
    path = package / SUMS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return (Problem(str(path), "is missing", FIX),)
    except (OSError, ValueError):
        return (Problem(str(path), "cannot be read", FIX),)
    lines = [_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    stated = {line[2]: line[1] for line in lines if line is not None}
    if not stated or len(stated) < len(lines) or not text.endswith("\n"):
        return (Problem(str(path), "is damaged: a line is not a hash and a name", FIX),)
    return tuple(_compared(package, stated))


def _compared(package: Path, stated: dict[str, str]) -> Iterator[Problem]:
    there = set(_names(package))
    for name in sorted(stated.keys() | there):
        if name not in there:
            yield Problem(str(package / name), "is missing", FIX)
        elif name not in stated:
            yield Problem(str(package / name), "is not of the package", "remove it, or copy the package again")
        elif (package / name).is_symlink():
            yield Problem(str(package / name), "is a link, and not the file that was built", FIX)
        elif file_sha256(package / name) != stated[name]:
            yield Problem(str(package / name), "is not the file that was built: its SHA-256 differs", FIX)


def _names(package: Path) -> Iterator[str]:
    """Files of the package but the sums, and links: by their paths from its folder, with `/`."""
    for path in package.rglob("*"):
        if (path.is_file() or path.is_symlink()) and (name := path.relative_to(package).as_posix()) != SUMS:
            yield name
