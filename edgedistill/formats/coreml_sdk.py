"""Apple's coremltools, which more than one format converts with."""

from __future__ import annotations

import importlib
from typing import Any

from edgedistill.base.errors import MissingDependencyError
from edgedistill.base.quiet import quiet_import

DEPLOYMENT_TARGET = "iOS17"
"""The oldest system the packages load on: `quantize` and `dequantize` of activations came with it (macOS 14 too)."""


def import_coremltools() -> Any:
    """The coremltools module, imported without its chatter. Raises MissingDependencyError with the line that installs it."""
    try:
        with quiet_import():
            return importlib.import_module("coremltools")
    except ModuleNotFoundError as error:
        if error.name != "coremltools":
            raise
        raise MissingDependencyError(
            "Core ML packages need coremltools, which is not installed",
            fix='pip install "coremltools>=9.0,<10" (it has wheels for macOS and for Linux on x86-64)',
        ) from None


def mil(module: str) -> Any:
    """A module of coremltools' intermediate language. coremltools must be there."""
    return importlib.import_module(f"coremltools.converters.mil.mil.{module}")
