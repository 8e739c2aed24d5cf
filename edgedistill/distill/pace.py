"""How many of its threads torch trains or labels with on the CPU: found by timing steps, and again when they get slow.

Beside a busy neighbour a second thread can make a step ten times slower: the threads wait for each other at every layer, and
the one without a processor keeps all waiting. No rule of cores tells that, a few timed steps do.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import torch

from edgedistill.base.progress import Listener, Note

ROUNDS: Final = 3
"""Times that each number of threads is tried, in turn. A step on it warms up, the next one is timed."""
SLOW: Final = 2.0
"""Times its own speed, from which on a step counts as slow."""
LOOKS: Final = 5
"""Steps whose median is held against that."""
GAP: Final = 40
"""Steps after a trial before the next one; twice as many after each that changed nothing."""


def thread_counts(threads: int | Literal["auto"], device: torch.device) -> tuple[int, ...]:
    """What may be tried: on the CPU all of torch's threads, half of them and so on down to one, or the number that is asked
    for."""
    if threads != "auto":
        return (threads,)
    counts = [torch.get_num_threads()]
    while device.type == "cpu" and counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return tuple(counts)


@dataclass(eq=False)
class Pace:
    """A context around each step sets the number of threads for it, one of `counts`; the first is the most. `listener` hears
    of a choice, as that of `work`."""

    counts: tuple[int, ...]
    listener: Listener
    clock: Callable[[], float] = time.perf_counter
    work: str = "training"
    _plan: deque[tuple[int, bool]] = field(default_factory=deque)
    _tried: dict[int, list[float]] = field(default_factory=dict)
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=LOOKS))
    _gap: int = GAP
    _since: int = 0
    threads: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.threads = self.counts[0]
        if len(self.counts) > 1:
            self._begin()

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step, timed."""
        threads, timed = self._plan[0] if self._plan else (self.threads, True)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        began = self.clock()
        yield
        seconds = self.clock() - began
        if self._plan:
            self._plan.popleft()
            if timed:
                self._tried[threads].append(seconds)
            if not self._plan:
                self._choose()
        elif len(self.counts) > 1:
            self._watch(seconds)

    def _begin(self) -> None:
        self._tried = {count: [] for count in self.counts}
        self._plan = deque((count, timed) for _ in range(ROUNDS) for count in self.counts for timed in (False, True))

    def _choose(self) -> None:
        took = {count: statistics.median(seconds) for count, seconds in self._tried.items()}
        chosen = min(took, key=lambda count: took[count])
        changed = chosen != self.threads
        self._gap = GAP if changed or not self.seconds else 2 * self._gap
        self.threads, self.seconds, self._since = chosen, took[chosen], 0
        self._recent.clear()
        if changed:
            told = ", ".join(f"{1000 * seconds:.0f} ms a step with {count}" for count, seconds in took.items())
            self.listener(
                Note(f"{self.work} uses {chosen} of {self.counts[0]} threads: {told}", once=f"{self.work}, threads")
            )

    def _watch(self, seconds: float) -> None:
        self._since += 1
        self._recent.append(seconds)
        slow = len(self._recent) == LOOKS and statistics.median(self._recent) > SLOW * self.seconds
        if slow and self._since >= self._gap:
            self._begin()
