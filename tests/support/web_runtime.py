"""onnxruntime-web from npm, and a browser: for tests, or none where they cannot be had."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from npm import npm_install

from edgedistill.base.errors import MissingDependencyError
from edgedistill.devices.browser import found


@cache
def onnxruntime_web() -> Path:
    """The folder of the package, once for all tests of a run. Skips without npm, its registry or a browser."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    try:
        found.browser()
    except MissingDependencyError:
        pytest.skip("needs Chromium")
    folder = Path(tempfile.mkdtemp(prefix="edgedistill-tests-web-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    npm_install(folder, found.PACKAGE)
    return folder / "node_modules" / found.PACKAGE
