"""Workers' items that end their process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

BATCH = 64


def die(*given: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Here:
    """An executor that does items in this process, on a bench of its own."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def run(self, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        from edgedistill.pipeline.work import do

        for number, item in enumerate(items):
            yield number, do(item, self.bench)


def own_id(tell: Any) -> int:
    return os.getpid()


def child_answers(tell: Any) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(int, ("7",))


def task_id(item: Any, threads: int, everything: bool, tell: Any) -> int:
    time.sleep(0.2)
    return os.getpid()


def threads_given(item: Any, threads: int, everything: bool, tell: Any) -> int:
    return threads


def wait(seconds: float, tell: Any) -> None:
    time.sleep(seconds)


def echo(value: Any, tell: Any) -> Any:
    from edgedistill.base.progress import Note

    tell(Note("heard"))
    return value


def fail(error: Exception, tell: Any) -> None:
    raise error


def crash(*given: object) -> None:
    """As native code does that writes past its memory."""
    os.kill(os.getpid(), signal.SIGSEGV)


def fail_training_of(victim: Any, message: str, item: Any, *given: Any) -> Any:
    """As a training that diverges; of every student where there is no victim."""
    from edgedistill.base.errors import TrialFailure
    from edgedistill.pipeline import workers

    if item.stage == "train" and victim in (None, item.spec):
        return TrialFailure(message)
    return workers.do_apart(item, *given)


def crash_in_a_step_of(victim: Any, item: Any, *given: Any) -> Any:
    """In the third step that this process trains the victim, a student, or fits the teacher where there is no victim."""
    from edgedistill.distill import loop
    from edgedistill.pipeline import workers

    real, taken = loop._State.advance, list[int]()

    def advance(self: Any, batch: Any) -> Any:
        taken.append(1)
        if len(taken) == 3:
            crash()
        return real(self, batch)

    if (item.spec == victim) if item.stage == "train" else (item.stage == "teacher" and victim is None):
        loop._State.advance = advance  # type: ignore[method-assign]
    try:
        return workers.do_apart(item, *given)
    finally:
        loop._State.advance = real  # type: ignore[method-assign]


def sleep(item: Any, *given: object) -> None:
    """For longer than a test waits; the file `begun` in the cache says that it began."""
    (item.place.root / "begun").touch()
    time.sleep(120)


def label_and_die_once(item: Any, *given: Any) -> Any:
    """Labels in batches of BATCH images, each of them synced, and dies when two batches of a view are done for the first
    time. How much was done of which view goes to the file `progress` in the cache."""
    from edgedistill.distill.teachers.labelling import Labeller
    from edgedistill.pipeline import teacher as teaching
    from edgedistill.pipeline import workers

    lost, progress = item.place.root / "lost", item.place.root / "progress"
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
    return workers.do_apart(item, *given)
