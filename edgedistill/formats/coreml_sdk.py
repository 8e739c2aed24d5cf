"""Apple's coremltools, which more than one format converts with."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from edgedistill.base.errors import MissingDependencyError
from edgedistill.base.quiet import quiet as base_quiet

DEPLOYMENT_TARGET = "iOS17"
"""The oldest system the packages load on: `quantize` and `dequantize` of activations came with it (macOS 14 too)."""


def import_coremltools() -> Any:
    """The coremltools module, imported without its chatter. Raises MissingDependencyError with the line that installs it."""
    try:
        with quiet():
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


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and progress bars of coremltools and torchao. Errors pass.

    Streams are left alone: another thread may be drawing progress on them.
    """
    with base_quiet(), ExitStack() as afterwards:
        if importlib.util.find_spec("tqdm"):
            tqdm = importlib.import_module("tqdm").tqdm
            afterwards.callback(setattr, tqdm, "__init__", tqdm.__init__)
            # coremltools has no switch for its bars; tqdm reads its environment variable at import, which is too late here.
            tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)
        yield
