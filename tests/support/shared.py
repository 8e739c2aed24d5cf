"""The temporary folder that all processes that run tests share, and the one that each of them has for itself."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SHARED = Path(os.environ.setdefault("EDGEDISTILL_TESTS_SHARED", tempfile.gettempdir()))
"""The system's, for what there is once on a machine."""


def take(folder: Path) -> None:
    """From now on `folder` is the temporary folder of this process, and of those that it starts."""
    folder.mkdir()
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # tempfile reads the variable again
