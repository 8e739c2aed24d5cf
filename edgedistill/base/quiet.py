"""Keeps libraries that talk from talking: `--json` promises one document on stdout and a live display owns stderr."""

from __future__ import annotations

import logging
import os
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


@contextmanager
def quiet_import() -> Iterator[None]:
    """`quiet`, to import a converter in. LiteRT's brings TensorFlow's native code, which tells the terminal itself, past
    Python, that oneDNN's operations are on. Unless the user has set otherwise they are off: a conversion needs no speed."""
    with variable("TF_ENABLE_ONEDNN_OPTS", os.environ.get("TF_ENABLE_ONEDNN_OPTS", "0")), quiet():
        yield


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Inside, the environment's variable `name` is `value`; after it, what it was before."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
