"""A command of a page, run as a reader types it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


def typed(command: str, folder: Path, environment: Mapping[str, str] | None = None, timeout_s: float = 120) -> str:
    """What it says on standard error. Fails where its exit code is not 0."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stderr
