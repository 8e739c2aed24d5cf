"""The contract that an ONNX file carries."""

from __future__ import annotations

from pathlib import Path

from edgedistill.documents.specs import Contract
from edgedistill.formats.carried import carried_contract
from edgedistill.formats.onnx.metadata import read_metadata
from edgedistill.formats.onnx_file import load


def read_contract(path: Path) -> Contract | None:
    return carried_contract(read_metadata(load(path, weights=False)), path)
