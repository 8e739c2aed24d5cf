"""Which limits a trial's files keep, in figures; the words of the search's own judgement are `Trial.reason`."""

from __future__ import annotations

import math
from typing import Literal

from edgedistill.artifacts import MeasuredLatency, SchemeResult, Trial
from edgedistill.explained import BytesOver, Lack, LatencyOver, Stated, TooInaccurate
from edgedistill.results import AccuracyLimit, BuildResult, LatencyLimit, MemoryLimit, SizeLimit
from edgedistill.selection.goal import comparable_ms, rank, validation_accuracy
from edgedistill.specs import Goal

Judged = tuple[SchemeResult, tuple[Lack, ...]]


def goal_of(result: BuildResult) -> Goal:
    """What the build's student was chosen by."""
    by_kind = {limit.kind: limit for limit in reversed(result.constraints)}  # this target's own come first
    size, memory, accuracy = by_kind.get("size"), by_kind.get("memory"), by_kind.get("accuracy")
    return Goal(
        budget=result.budget,
        objective=result.objective,
        max_bytes=size.limit_bytes if isinstance(size, SizeLimit) else None,
        max_memory_bytes=memory.limit_bytes if isinstance(memory, MemoryLimit) else None,
        min_accuracy=accuracy.limit if isinstance(accuracy, AccuracyLimit) else None,
    )


def serves_several(result: BuildResult) -> bool:
    """Whether one student was searched for several targets."""
    return sum(isinstance(limit, LatencyLimit) for limit in result.constraints) > 1


def trained_out(trial: Trial, result: BuildResult) -> bool:
    """Whether a trial went through all rungs."""
    return trial.state != "failed" and bool(trial.rungs) and trial.rungs[-1].epochs == result.rungs[-1]


def best_file(trial: Trial, goal: Goal, *, accuracy_counts: bool) -> Judged | None:
    """Of a trial's files that were kept, the one that the goal ranks first of those that keep all limits; where none does,
    that which breaks the fewest, of several the fastest. With the limits that it breaks. `accuracy_counts` once the trial is
    trained out. None without a file."""
    judged = [(s, broken_limits(s, goal, accuracy_counts=accuracy_counts)) for s in trial.schemes if not s.dropped]

    def order(pair: Judged) -> tuple[float, ...]:
        scheme, broken = pair
        return (len(broken), comparable_ms(scheme, goal)) if broken else (0, *rank(scheme, goal))

    return min(judged, key=order, default=None)


def broken_limits(scheme: SchemeResult, goal: Goal, *, accuracy_counts: bool) -> tuple[Lack, ...]:
    """The limits that a file does not keep, by how much."""
    budget, precision = goal.budget, scheme.scheme.precision
    found: list[Lack] = []
    if isinstance(scheme.latency, MeasuredLatency):
        comparable_ms = scheme.latency.comparable(budget.percentile)
        if comparable_ms > budget.latency_ms:
            found.append(
                LatencyOver(
                    precision=precision,
                    percentile=budget.percentile,
                    measured_ms=scheme.latency.at(budget.percentile),
                    comparable_ms=comparable_ms,
                    limit_ms=budget.latency_ms,
                )
            )
    else:
        found.append(Stated(about="unmeasured", reason=f"the latency of its {precision} file is not measured"))
    limited: tuple[tuple[Literal["size", "memory"], int | None, int | None], ...] = (
        ("size", goal.max_bytes, scheme.artifact.bytes),
        ("memory", goal.max_memory_bytes, scheme.peak_memory_bytes),
    )
    for kind, limit, taken in limited:
        if limit is not None and (taken is None or taken > limit):
            found.append(BytesOver(kind=kind, precision=precision, bytes=taken, limit_bytes=limit))
    accuracy = validation_accuracy(scheme)
    if accuracy_counts and goal.min_accuracy is not None and accuracy < goal.min_accuracy:
        known = accuracy if math.isfinite(accuracy) else None
        found.append(TooInaccurate(precision=precision, accuracy_validation=known, limit=goal.min_accuracy))
    return tuple(found)
