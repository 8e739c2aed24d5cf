"""Reading an ONNX file, which more than one format does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.base.errors import InputError

if TYPE_CHECKING:
    import onnx


def load(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """The model in an ONNX file. `weights` false leaves out those kept in a second file. Raises InputError for a file that
    cannot be read."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(path, load_external_data=weights)
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path} is not a readable ONNX file: {error}") from error
