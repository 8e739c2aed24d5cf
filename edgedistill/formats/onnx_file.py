"""Reading an ONNX file, which more than one format does."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgedistill.base.errors import InputError


def load(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """An ONNX file, without the data of weights kept in a second file unless asked. Raises InputError."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(path, load_external_data=weights)
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path} is not a readable ONNX file: {error}") from error
