"""A checkpoint as a file: whether it is there and whole, as far as that is told without importing torch."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from edgedistill.base.errors import InputError
from edgedistill.base.paths import nearest

_ZIP, _PICKLE = b"PK", b"\x80"


def require_whole(path: Path) -> Literal["torch", "safetensors"]:
    """What kind of file the checkpoint is. Raises InputError for one that is missing, a folder, not readable, cut off, or no
    checkpoint. Of a pickle and of what lies inside an archive torch alone can tell whether it is whole."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(2)
    except FileNotFoundError:
        raise InputError(
            f"the checkpoint {path} does not exist", fix=nearest(path, "check [teacher] checkpoint")
        ) from None
    except IsADirectoryError:
        raise InputError(f"the checkpoint {path} is a folder", fix="name the file of weights") from None
    except OSError as error:
        raise InputError(
            f"the checkpoint {path} cannot be read: {error.strerror}", fix="check its path and permissions"
        ) from None
    if magic == _ZIP and not zipfile.is_zipfile(path):
        raise damaged(path, "the archive is cut off")
    if magic == _ZIP or magic[:1] == _PICKLE:
        return "torch"
    try:
        safe_open(path, framework="np")  # reads the header, and holds it against the size of the file
    except SafetensorError as error:
        raise not_safetensors(path, error) from error
    return "safetensors"


def damaged(path: Path, reason: str) -> InputError:
    """The error of a torch checkpoint that cannot be read."""
    return InputError(
        f"the checkpoint {path} is damaged, or is not a torch checkpoint of weights alone ({reason})",
        fix="copy it again, or save the state dict as safetensors",
    )


def not_safetensors(path: Path, error: SafetensorError) -> InputError:
    """The error of a file that is neither."""
    return InputError(
        f"the checkpoint {path} is neither a whole safetensors file nor a torch checkpoint ({error})",
        fix="copy it again, or save the state dict as safetensors",
    )
