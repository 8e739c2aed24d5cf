"""Keeps libraries that talk from talking: `--json` promises one document on stdout and a live display owns stderr."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Drops Python warnings and log records below ERROR of everything inside. Errors and exceptions pass.

    A NullHandler sits on the root logger meanwhile: `logging.warning`, which onnxruntime.quantization calls, would
    otherwise install a stderr handler that stays for the rest of the process.
    """
    root, handler, disabled = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(max(disabled, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)
