"""Apple's coremltools, which more than one format converts with."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgedistill.base.errors import MissingDependencyError

DEPLOYMENT_TARGET = "iOS17"
"""The oldest system the packages load on: `quantize` and `dequantize` of activations came with it (macOS 14 too)."""


_CHATTERING_LOGGERS = ("coremltools", "torchao", "torch.utils._pytree")


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


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and progress bars of coremltools and torchao. Errors pass.

    Streams are left alone: another thread may be drawing progress on them.
    """
    loggers = [logging.getLogger(name) for name in _CHATTERING_LOGGERS]
    levels = [logger.level for logger in loggers]
    tqdm = importlib.import_module("tqdm").tqdm if importlib.util.find_spec("tqdm") else None
    init = tqdm.__init__ if tqdm else None
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        if tqdm:
            # coremltools has no switch for its bars; tqdm reads its environment variable at import, which is too late here.
            tqdm.__init__ = functools.partialmethod(init, disable=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if tqdm:
            tqdm.__init__ = init
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
