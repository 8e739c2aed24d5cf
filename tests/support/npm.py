"""Packages of npm for a test, or none where its registry cannot be reached."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

_QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error", "--fetch-retries=1")
_UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|E40[137]"
)


def npm_install(folder: Path, *packages: str) -> None:
    """`npm install` in `folder`, with these packages beside those of its package.json. Skips the test where the registry
    cannot be reached."""
    command = ["npm", "install", *_QUIET, "--prefix", str(folder), *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    told = f"{done.stdout}\n{done.stderr}"
    if done.returncode and _UNREACHABLE.search(told):
        pytest.skip(f"npm's registry cannot be reached: {told.strip().splitlines()[0]}")
    assert done.returncode == 0, told
