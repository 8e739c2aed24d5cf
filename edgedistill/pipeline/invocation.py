"""How a build was asked for: its build file, and what was put in the place of that file's words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgedistill.documents.fields import is_target_path
from edgedistill.documents.targets import target_file


@dataclass(frozen=True)
class Invocation:
    """The build file, and the options that replaced what it says, each with its values (a switch has none). Files are named
    as they are seen from the output folder. It changes nothing of what is built. Empty where there was no build file."""

    build_file: str = ""
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def invocation_of(path: Path, out: Path, targets: Sequence[str], options: Mapping[str, tuple[str, ...]]) -> Invocation:
    """That of a build of the file at `path` into the folder `out`, with these options and for these targets; without targets
    for those of the file."""
    named = tuple(seen_from(out, target_file(name)) if is_target_path(name) else name for name in targets)
    return Invocation(seen_from(out, path), {"--target": named, **options} if named else options)


def seen_from(out: Path, path: Path) -> str:
    """The path of a file from the folder `out`. Its name alone where it lies in the user's home and `out` does not: a
    document that is passed on does not say whose home that is."""
    file, folder = (Path(os.path.normpath(one.absolute())) for one in (path, out))
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - where there is no home pathlib's raises
    if file.is_relative_to(home) and not folder.is_relative_to(home):
        return file.name
    return Path(os.path.relpath(file, folder)).as_posix()
