"""Workers' tasks that end their process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

BATCH = 64


def die(*given: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(task: Any, threads: int) -> None:
    """For longer than a test waits; the file `begun` in the cache says that it began."""
    (task.root / "begun").touch()
    time.sleep(120)


def label_and_die_once(task: Any, threads: int) -> Any:
    """Labels in batches of BATCH images, each of them synced, and dies when two batches of a view are done for the first
    time. How much was done of which view goes to the file `progress` in the cache."""
    from edgedistill.distill.teachers.labelling import Labeller
    from edgedistill.pipeline import teacher as teaching
    from edgedistill.pipeline import workers

    lost, progress = task.root / "lost", task.root / "progress"
    real = Labeller.label

    def label(self: Labeller, folder: Path, view: int, on_progress: Callable[[int], None]) -> None:
        def hear(done: int) -> None:
            with progress.open("a") as stream:
                stream.write(f"{view} {done}\n")
            if done == 2 * BATCH and not lost.exists():
                lost.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            on_progress(done)

        real(self, folder, view, hear)

    Labeller.label = label  # type: ignore[method-assign]
    teaching.Labeller = partial(Labeller, batch_size=BATCH, commit_seconds=0)  # type: ignore[misc, assignment]
    return workers.do_apart(task, threads)
