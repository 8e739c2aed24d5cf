"""Where the model of a library lies that a build file names: `transformers:NAME` and `open_clip:NAME` may be a folder.

Importing this imports neither torch nor the libraries.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from edgedistill.base.errors import InputError, MissingDependencyError, reworded
from edgedistill.base.paths import nearest
from edgedistill.base.store import digest, file_sha256, tool_version

TRANSFORMERS: Final = "transformers"
OPEN_CLIP: Final = "open_clip"
ONNX: Final = "onnx"
OUTPUTS: Final = "outputs"
EXTRAS: Final = MappingProxyType({TRANSFORMERS: "transformers", OPEN_CLIP: "open-clip"})
"""Libraries of models that are optional, with the extra that installs each."""


def of_teacher(number: int) -> AbstractContextManager[None]:
    """What is raised within names the table of the teacher of that number: 0 is `[teacher]`."""
    return reworded(lambda text: text.replace("[teacher]", f"[[teachers]] {number}") if number else text)


def require_library(library: str) -> None:
    """Raises MissingDependencyError where it is not installed."""
    if importlib.util.find_spec(library) is None:
        raise MissingDependencyError(
            f"[teacher] model: {library}: needs the package {library}",
            fix=f"pip install 'edgedistill[{EXTRAS[library]}]'",
        )


def folder_of(name: str, base: Path) -> Path | None:
    """The folder that a model's name is, as seen from `base`; None for a name of the library or of a hub. Raises InputError
    for one that can only be a path and is not there."""
    path = base / os.path.expanduser(name)  # noqa: PTH111 - leaves `~nobody` alone where pathlib's raises
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")) or path.exists():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise InputError(f"[teacher] model: {path} {what}", fix=nearest(path, "name the folder that holds the model"))
    return None


def onnx_path(model: str, base: Path) -> Path | None:
    """The file of a teacher that is one, `onnx:FILE` as seen from `base`; None for another teacher."""
    return _path(model, ONNX, base)


def outputs_path(model: str, base: Path) -> Path | None:
    """The file of a teacher of which there are outputs alone, `outputs:FILE` as seen from `base`; None for another one."""
    return _path(model, OUTPUTS, base)


def _path(model: str, kind: str, base: Path) -> Path | None:
    library, _, name = model.partition(":")
    return base / os.path.expanduser(name) if library == kind else None  # noqa: PTH111 - see `folder_of`


def place_identity(library: str, name: str, base: Path) -> str:
    """What tells a model of `library` from others: its version, and of a folder the content of its files."""
    folder = folder_of(name, base)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    return digest([tool_version(library), {str(path.relative_to(folder or base)): file_sha256(path) for path in files}])
