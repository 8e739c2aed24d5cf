"""Warm-up and samples of one model, or of two in turn. A part of the agent (see agent.py). Standard library only.

Every run counts: what was sampled is what is told, whatever the machine did meanwhile. Two models in one process, in
turn, meet the same neighbours, clocks and heat, so that the ratio of their latencies says more than either of them
alone (duet benchmarking: Bulej et al. 2020, arXiv 2001.05811).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple  # noqa: UP035 (Python 3.8: an alias is evaluated)

WARMUP_S = 0.25
WARMUP_RUNS = 3
# Of a burst: enough that the runs which find the other model's data in the cache are the lesser part.
BURST_RUNS = 5
HARD_LIMIT_FACTOR = 4

Timed = Callable[[], int]
"""One run of a model; returns its duration in ns."""


class Taken(NamedTuple):
    """Durations in ns of each model's runs, in the order taken, and of each turn how many runs each model had."""

    samples_ns: list[list[int]]
    turns: list[list[int]]


def warm_up(models: Sequence[Timed]) -> int:
    """Run each model for a quarter of a second, at least three times; returns the runs of the first."""
    first = 0
    for place, run in enumerate(models):
        end, runs = time.perf_counter() + WARMUP_S, 0
        while runs < WARMUP_RUNS or time.perf_counter() < end:
            run()
            runs += 1
        first = first if place else runs
    return first


def take_samples(models: Sequence[Timed], seconds: float, min_runs: int, burst_s: float) -> Taken:
    """Runs for `seconds` in all: of one model back to back, of two in turn, for `burst_s` and at least `BURST_RUNS`
    runs each. Sampling goes on until each has `min_runs`, but ends after four times `seconds`."""
    taken = Taken([[] for _ in models], [])
    began = time.perf_counter()
    end, last_end = began + seconds, began + HARD_LIMIT_FACTOR * seconds
    length_s = seconds if len(models) == 1 else burst_s
    while (now := time.perf_counter()) < last_end:
        if now >= end:
            if all(len(samples_ns) >= min_runs for samples_ns in taken.samples_ns):
                break
            length_s = 0.0
        before = [len(samples_ns) for samples_ns in taken.samples_ns]
        for run, samples_ns in zip(models, taken.samples_ns):
            burst(run, samples_ns, length_s, last_end)
        taken.turns.append([len(s) - count for s, count in zip(taken.samples_ns, before)])
    return taken


def as_fields(taken: Taken, warmup_runs: int) -> dict[str, Any]:
    """Those fields of `Session` that sampling gives. Turns are told of two models."""
    mine, *its = taken.samples_ns
    return {
        "samples_ns": mine,
        "anchor_ns": its[0] if its else [],
        "turns": taken.turns if its else [],
        "warmup_runs": warmup_runs,
    }


def burst(run: Timed, samples_ns: list[int], seconds: float, last_end: float) -> None:
    """Add the durations of runs for so long, at least `BURST_RUNS` of them; one run at least, and none begins after
    `last_end` (of time.perf_counter)."""
    end, least = time.perf_counter() + seconds, len(samples_ns) + BURST_RUNS
    while True:
        samples_ns.append(run())
        now = time.perf_counter()
        if now >= last_end or (now >= end and len(samples_ns) >= least):
            return
