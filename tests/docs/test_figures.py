"""README's table of figures is what the committed results give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_is_the_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "figures.py"), "check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/figures.py write"
