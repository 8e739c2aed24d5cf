"""What all tests need, and the processes that they start."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest
import shared
import unsynced as unsynced
from hypothesis import settings

# How long an example takes is the machine's affair: a busy one would fail tests of mathematics.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# pytest-xdist tells its workers that they are 80 columns wide: what a command prints to a pipe is as wide as it likes.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COLUMNS", None)

# No test fetches weights, whether or not there is a network.
os.environ["HF_HUB_OFFLINE"] = "1"

# Where the null format is found, by its entry point as a third party's.
SUPPORT = str(Path(__file__).parent / "support")
if SUPPORT not in os.environ.get("PYTHONPATH", ""):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (SUPPORT, os.environ.get("PYTHONPATH"))))


@pytest.fixture(scope="session", autouse=True)
def own_turns(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A temporary folder for each process that runs tests, and so its own turns at the processor (devices/turns.py): a test
    that measures would hold up all that train in the others. No test judges how fast this machine is."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared.take(tmp_path_factory.getbasetemp() / "t")


@pytest.fixture(scope="session")
def realistic() -> ModuleType:
    """Made-up builds, as they would really end."""
    import realistic

    return realistic
