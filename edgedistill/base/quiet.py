"""Keeps libraries that talk from talking: `--json` promises one document on stdout and a live display owns stderr."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Drops Python warnings, log records below ERROR and progress bars of everything inside. Errors and exceptions pass;
    streams are left alone, since another thread may be drawing on them.

    A NullHandler sits on the root logger meanwhile: `logging.warning`, which onnxruntime.quantization calls, would
    otherwise install a stderr handler that stays for the rest of the process.
    """
    root, handler, disabled = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(max(disabled, logging.WARNING))
    try:
        with warnings.catch_warnings(), _no_progress_bars():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Inside, tqdm draws nothing, whatever its caller asks for. Converters have no switch for their bars, and tqdm reads its
    environment variable at import, which is too late here."""
    if not importlib.util.find_spec("tqdm"):
        yield
        return
    bar = importlib.import_module("tqdm").tqdm
    init = bar.__init__

    def disabled(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **{**kwargs, "disable": True})

    bar.__init__ = disabled
    try:
        yield
    finally:
        bar.__init__ = init


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
