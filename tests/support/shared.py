"""What all processes that run tests share, each of which has a temporary folder of its own (conftest.py)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SHARED = Path(os.environ.setdefault("EDGEDISTILL_TESTS_SHARED", tempfile.gettempdir()))
"""The system's temporary folder, read before any process takes another one."""
