"""pytest-xdist tells its workers that they are 80 columns wide: what a command prints to a pipe is as wide as it likes."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COLUMNS", None)
