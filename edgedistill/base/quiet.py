"""Keeps libraries that talk from talking: `--json` promises one document on stdout and a live display owns stderr."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
    """`quiet` and `native_quiet`, to import a vendor's package in. LiteRT's converter brings TensorFlow, whose oneDNN
    operations are off unless the user has set otherwise: a conversion needs no speed."""
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "0")
    with variable("TF_ENABLE_ONEDNN_OPTS", onednn), quiet(), native_quiet():
        yield


_aside = False


def output_is_aside() -> None:
    """For a child whose output its parent keeps: `native_quiet` drops nothing there from now on. No terminal sees that
    output, and it says why a child died."""
    global _aside
    _aside = True


@contextmanager
def native_quiet() -> Iterator[None]:
    """Drops what native code writes to the process's stderr, which is descriptor 2. For moments, an import or a load: what
    other threads write there goes with it. What the command line itself prints does not, since `edgedistill.cli.app.main`
    gives it another descriptor."""
    try:
        kept = -1 if _aside else os.dup(2)
    except OSError:  # it is closed
        kept = -1
    if kept < 0:
        yield
        return
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


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
