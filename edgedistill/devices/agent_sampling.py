"""Warm-up and samples of a model, taken at one speed of the processor. A part of the agent (see agent.py).

The speed is read off arithmetic that has nothing to do with the model. What ran at another speed is set aside by that alone:
setting aside by the outcome would make every percentile look better than it is.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

WARMUP_WINDOW_RUNS = 10
WARMUP_WINDOW_S = 0.02
WARMUP_TOLERANCE = 0.02
WARMUP_LIMIT_S = 3.0
WARMUP_LIMIT_RUNS = 5000
HARD_LIMIT_FACTOR = 4
REFERENCE_ROUNDS = 400
REFERENCE_PRODUCTS = 4
REFERENCE_REPEATS = 300
REFERENCE_TOLERANCE = 0.2
REFERENCE_POLL_S = 0.05
# Between two looks at the processor's speed, and how often the arithmetic is repeated for one (0.3 ms in all). A neighbour's
# visits last 5 to 50 ms: a tenth of a second between looks of 6 ms misses most, and the first run after so long a look
# takes twice its time. After this one it takes a tenth longer: one run of dozens, where a model is small enough to feel it.
BLOCK_S = 0.005
LOOK_REPEATS = 15
# So many blocks at another speed are kept, the last ones, for the case that it is the one that lasts. All those of a long
# wait would count as the model's memory.
MOST_SET_ASIDE = 400
# So long the processor is looked at before its own speed is told for the first time.
LOOK_S = 1.0


def reference_us(repeats: int = REFERENCE_REPEATS) -> float:
    """Median duration in us of a fixed piece of arithmetic: how fast the processor is now, whatever the model; about 20 us
    for each repeat. A lower clock and a throttled device show in it, and a neighbour on the other thread of the same core:
    that one slows an interpreter by 1.9, small matrix products by 1.4 and whole networks by 1.5 to 1.6, as it does this
    mix."""
    import numpy as np

    clock = time.perf_counter_ns
    matrix = np.full((48, 48), 0.5, np.float32)
    durations = []
    for _ in range(repeats):
        start = clock()
        for _ in range(REFERENCE_PRODUCTS):
            matrix @ matrix
        total = 0
        for number in range(REFERENCE_ROUNDS):
            total += number
        durations.append(clock() - start)
    return statistics.median(durations) / 1e3


def await_speed(wanted_us: float | None, limit_s: float) -> float:
    """Wait until the processor has the speed that `wanted_us` (of `reference_us`) tells, neither slower nor faster; returns
    the seconds waited, `limit_s` at most."""
    began = time.perf_counter()
    waited = 0.0
    while wanted_us is not None and waited < limit_s and abs(reference_us() / wanted_us - 1) > REFERENCE_TOLERANCE:
        time.sleep(REFERENCE_POLL_S)
        waited = time.perf_counter() - began
    return waited


def warm_up(run: Callable[[Any], object], feeds: Sequence[Any]) -> int:
    """Run until the medians of two successive windows lie within 2% of each other, or a limit is reached; returns the
    number of runs. A window is at least 10 runs and 20 ms, so that a fast model's window spans more than one clock tick
    of the frequency governor."""
    turn = itertools.cycle(feeds)
    began = time.perf_counter()
    runs, previous = 0, None
    while True:
        window: list[int] = []
        window_began = time.perf_counter()
        while len(window) < WARMUP_WINDOW_RUNS or time.perf_counter() - window_began < WARMUP_WINDOW_S:
            start = time.perf_counter_ns()
            run(next(turn))
            window.append(time.perf_counter_ns() - start)
            if time.perf_counter() - began > WARMUP_LIMIT_S and runs + len(window) >= 3:
                return runs + len(window)
        runs += len(window)
        median = statistics.median(window)
        if runs >= WARMUP_LIMIT_RUNS or (previous is not None and abs(median / previous - 1) <= WARMUP_TOLERANCE):
            return runs
        previous = median


class Block(NamedTuple):
    """Runs between two looks at the processor's speed (`reference_us`, before and after them); durations in ns."""

    samples_ns: list[int]
    before_us: float
    after_us: float

    def at(self, wanted_us: float) -> bool:
        """Whether the processor had that speed at both ends."""
        return all(abs(speed_us / wanted_us - 1) <= REFERENCE_TOLERANCE for speed_us in (self.before_us, self.after_us))


class Samples(NamedTuple):
    """Raw durations in ns, in the order taken; the processor's speed around them; how many others were set aside because
    the processor ran at another speed meanwhile; and for how many of the seconds that it may wait for its speed that went
    on."""

    samples_ns: list[int]
    references_us: list[float]
    set_aside: int
    waited_s: float


class Taken:
    """Blocks as they are taken, and how many samples are at the speed wanted (`at_speed`) and in all (`total`), with the
    sums of their durations."""

    def __init__(self, speed_us: float | None) -> None:
        self.blocks: list[Block] = []
        self.speed_us = speed_us
        self.at_speed, self.at_speed_ns = 0, 0
        self.total, self.total_ns = 0, 0
        self.others = 0

    def add(self, block: Block) -> None:
        """One more; until a speed is wanted it counts as at another one."""
        self.blocks.append(block)
        self.total += len(block.samples_ns)
        self.total_ns += sum(block.samples_ns)
        self._count(block)
        if self.speed_us and self.others > 2 * MOST_SET_ASIDE:
            self.blocks = without_old(self.blocks, self.speed_us)
            self.others = MOST_SET_ASIDE

    def want(self, speed_us: float) -> None:
        """From now on this speed is wanted, and was all along."""
        self.speed_us = speed_us
        self.at_speed, self.at_speed_ns, self.others = 0, 0, 0
        for block in self.blocks:
            self._count(block)

    @property
    def at_speed_s(self) -> float:
        """Seconds of runs at the speed wanted."""
        return self.at_speed_ns / 1e9

    @property
    def aside_s(self) -> float:
        """Seconds of runs at another one."""
        return (self.total_ns - self.at_speed_ns) / 1e9

    def _count(self, block: Block) -> None:
        if self.speed_us and block.at(self.speed_us):
            self.at_speed += len(block.samples_ns)
            self.at_speed_ns += sum(block.samples_ns)
        else:
            self.others += 1

    def chosen(self, min_samples: int) -> list[Block]:
        """Those at the speed wanted; where these have too few samples those at the processor's own speed, or all."""
        for speed_us in (self.speed_us, own_speed_us(self.blocks)):
            blocks = [block for block in self.blocks if speed_us and block.at(speed_us)]
            if len(samples_of(blocks)) >= min_samples:
                return blocks
        return self.blocks


def take_samples(
    run: Callable[[Any], object],
    feeds: Sequence[Any],
    max_samples: int,
    max_seconds: float,
    min_samples: int,
    wanted_us: float | None,
    wait_s: float,
) -> Samples:
    """Samples at one speed of the processor: the one asked for, or for None its own (`own_speed_us`) over a second at least.

    Of these, sampling ends at `max_samples`; after `max_seconds` if there are `min_samples`; after four times `max_seconds`
    whatever there is. What runs at another speed is set aside, for four times `max_seconds` and `wait_s` at most, and only
    for `max_seconds` and `wait_s` where the speed is never seen. Where that leaves fewer than `min_samples`, those at the
    processor's own speed of late are taken, and where these are too few as well all of late, as they are.

    The collector is off meanwhile: its pauses are not the model's.
    """
    turn = itertools.cycle(feeds)
    longest_s = HARD_LIMIT_FACTOR * max_seconds
    look_s = min(max_seconds, LOOK_S)
    taken = Taken(wanted_us)
    gc.collect()
    gc.disable()
    try:
        before_us = reference_us(LOOK_REPEATS)
        while True:
            samples_ns = run_for(BLOCK_S, run, turn, max_samples - taken.at_speed)
            after_us = reference_us(LOOK_REPEATS)
            taken.add(Block(samples_ns, before_us, after_us))
            before_us = after_us
            if wanted_us is None and taken.total_ns / 1e9 >= look_s:
                taken.want(own_speed_us(taken.blocks))
                # The next time when twice as much was seen: all that was taken is counted anew each time.
                look_s *= 2
            if taken.speed_us is None:
                continue
            enough = taken.at_speed >= max_samples or (
                taken.at_speed_s >= max_seconds and taken.at_speed >= min_samples
            )
            patience_s = wait_s + (longest_s if taken.at_speed else max_seconds)
            if enough or taken.at_speed_s >= longest_s or taken.aside_s >= patience_s:
                break
    finally:
        gc.enable()
    chosen = taken.chosen(min_samples)
    return Samples(
        samples_ns=samples_of(chosen)[:max_samples],
        references_us=[reference for block in chosen for reference in (block.before_us, block.after_us)],
        set_aside=taken.total - len(samples_of(chosen)),
        waited_s=max(0.0, taken.aside_s - longest_s),
    )


def run_for(seconds: float, run: Callable[[Any], object], turn: Iterator[Any], most: int) -> list[int]:
    """Durations in ns of runs for so long, at least one and at most `most`."""
    clock = time.perf_counter_ns
    samples_ns: list[int] = []
    end = clock() + round(seconds * 1e9)
    for feed in turn:
        start = clock()
        run(feed)
        stop = clock()
        samples_ns.append(stop - start)
        if len(samples_ns) >= most or stop >= end:
            break
    return samples_ns


def own_speed_us(blocks: Sequence[Block]) -> float:
    """The speed that the processor kept or beat a quarter of the time: not its best moment, and not a neighbour's."""
    seen = sorted(speed_us for block in blocks for speed_us in (block.before_us, block.after_us))
    return seen[len(seen) // 4]


def without_old(blocks: Sequence[Block], wanted_us: float) -> list[Block]:
    """All blocks at that speed, and of the others the last MOST_SET_ASIDE."""
    others = [place for place, block in enumerate(blocks) if not block.at(wanted_us)]
    old = set(others[:-MOST_SET_ASIDE])
    return [block for place, block in enumerate(blocks) if place not in old]


def samples_of(blocks: Sequence[Block]) -> list[int]:
    """The samples of all these blocks, in ns."""
    return [sample for block in blocks for sample in block.samples_ns]
