"""Turns at this machine's processor: any number of processes that train, or one that measures.

A measurement beside a training measures the training. The locks lie in the system's temporary folder and not in the cache,
since two builds with different caches disturb each other just as much.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgedistill.base.progress import Listener
from edgedistill.base.store import lock


def measuring_lock() -> Path:
    """The file that serialises sessions of this user on this machine."""
    return Path(tempfile.gettempdir()) / f"edgedistill-measuring-{os.getuid()}.lock"


def _training_lock(measuring: Path) -> Path:
    return measuring.with_name(f"{measuring.name}.training")


@contextmanager
def measuring(listener: Listener, lock_file: Path | None = None) -> Iterator[None]:
    """Have the machine to oneself: waits for measurements under way and for all that train."""
    turn = lock_file or measuring_lock()
    with (
        lock(turn, listener, "another measurement on this machine"),
        lock(_training_lock(turn), listener, "a training on this machine"),
    ):
        yield


@contextmanager
def training(listener: Listener, lock_file: Path | None = None) -> Iterator[None]:
    """Train beside others that do, and beside no measurement."""
    turn = lock_file or measuring_lock()
    with ExitStack() as held:
        # Through the measurements' own lock: one that waits for trainings to end holds it, and no further one gets past it.
        with lock(turn, listener, "a measurement on this machine"):
            held.enter_context(lock(_training_lock(turn), listener, "a measurement on this machine", shared=True))
        yield
