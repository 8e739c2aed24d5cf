"""Work on many files at once, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

from edgedistill.base.machine import usable_cpus
from edgedistill.base.progress import Listener, StageAdvanced, StageFinished, StageStarted

SECONDS_UNTOLD: Final = 2.0
"""What is done within this time is not told."""

SECONDS_BETWEEN: Final = 0.5
_PART: Final = 16

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def told_if_slow(
    listener: Listener, stage: str, subject: str, total: int | None = None
) -> Iterator[Callable[[int], None]]:
    """Gives a function that takes how many steps are done. Once the block has taken longer than SECONDS_UNTOLD, `listener`
    hears that the stage began, how far it is (twice a second at most), and that it is finished."""
    began = time.monotonic()
    due = began + SECONDS_UNTOLD
    told = False

    def advance(done: int) -> None:
        nonlocal due, told
        now = time.monotonic()
        if now < due:
            return
        if not told:
            listener(StageStarted(stage, subject, total))
        told, due = True, now + SECONDS_BETWEEN
        listener(StageAdvanced(stage, done, total))

    yield advance
    if told:
        listener(StageFinished(stage, subject, time.monotonic() - began, reused=False))


def in_threads(work: Callable[[T], R], items: Sequence[T], advance: Callable[[int], None]) -> Generator[R, None, None]:
    """`work` of each item, in their order, with a thread for each processor that this process may use. `advance` is called
    with how many are done. For work that mostly runs outside the interpreter's lock: reading, hashing, decoding. What `work`
    raises passes through."""
    # A future costs as much as a small file: so each has several.
    parts = [items[start : start + _PART] for start in range(0, len(items), _PART)]
    pool = ThreadPoolExecutor(usable_cpus())
    done = 0
    try:
        for results in pool.map(lambda part: [work(item) for item in part], parts):
            yield from results
            done += len(results)
            advance(done)
    finally:
        # An interruption waits for the parts that have begun, and for no others.
        pool.shutdown(cancel_futures=True)


def untold(done: int) -> None:
    """Progress of a part that is told as a whole."""
