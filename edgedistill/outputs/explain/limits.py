"""Which limits a trial's files keep, in figures, and which file is the better one; the words of the search's own judgement
are `Trial.reason`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from edgedistill.base.intervals import lower_bound
from edgedistill.documents.artifacts import SchemeResult, Trial, answers_of
from edgedistill.documents.explanation import BytesOver, Lack, LatencyOver, Stated, TooInaccurate
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.results import BuildResult, LatencyLimit, MemoryLimit, QualityLimit, SizeLimit
from edgedistill.documents.specs import Goal, Objective
from edgedistill.selection.goal import (
    accurate_enough,
    comparable_ms,
    provable_ms,
    rank,
    ranked_quality,
    validation_quality,
    within_margin,
)

Judged = tuple[SchemeResult, tuple[Lack, ...]]
"""A file, and the limits that it breaks."""


def goal_of(result: BuildResult) -> Goal:
    """What the build's student was chosen by."""
    by_kind = {limit.kind: limit for limit in reversed(result.constraints)}  # this target's own come first
    latency, size, memory, quality = (by_kind.get(kind) for kind in ("latency", "size", "memory", "quality"))
    return Goal(
        budget=result.budget,
        objective=result.objective,
        aim_ms=latency.aim_ms if isinstance(latency, LatencyLimit) else None,
        max_bytes=size.limit_bytes if isinstance(size, SizeLimit) else None,
        max_memory_bytes=memory.limit_bytes if isinstance(memory, MemoryLimit) else None,
        min_quality=quality.limit if isinstance(quality, QualityLimit) else None,
        quality_margin=result.quality_margin,
    )


def trained_out(trial: Trial, result: BuildResult) -> bool:
    """Whether a trial went through all rungs."""
    return trial.state != "failed" and bool(trial.rungs) and trial.rungs[-1].epochs == result.rungs[-1]


@dataclass(frozen=True)
class Judge:
    """Of a build's files, by its goal."""

    result: BuildResult

    @cached_property
    def goal(self) -> Goal:
        return goal_of(self.result)

    @cached_property
    def most_accurate(self) -> SchemeResult | None:
        """The most accurate file of all students that kept every limit to the end, of several the fastest: what is within
        the margin is measured by it."""
        files = [file for trial in self.result.trials for file in self.fitting(trial)]

        def order(file: SchemeResult) -> tuple[float, ...]:
            return (-ranked_quality(file), -validation_quality(file), comparable_ms(file, self.goal))

        return min(files, key=order, default=None)

    def fitting(self, trial: Trial) -> list[SchemeResult]:
        """The files of a student that went through all rungs which were kept and keep every limit."""
        if trial.state != "complete" or not trained_out(trial, self.result):
            return []
        kept = (scheme for scheme in trial.schemes if not scheme.dropped)
        return [scheme for scheme in kept if not broken_limits(scheme, self.goal, quality_counts=True)]

    def as_accurate(self, scheme: SchemeResult) -> bool:
        """Whether a file is as accurate as the most accurate one within the margin, with 95% confidence."""
        best = self.most_accurate
        return best is not None and within_margin(scheme, best, self.goal)

    def standing(self, scheme: SchemeResult) -> tuple[float, ...]:
        """Sorts files that keep every limit as the winner is chosen: those as accurate as the most accurate one by latency,
        before the others by quality; all by latency where the fastest is wanted."""
        if self.goal.objective is Objective.LATENCY or not self.as_accurate(scheme):
            return (1.0, *rank(scheme, self.goal))
        return (0.0, comparable_ms(scheme, self.goal))

    def best_file(self, trial: Trial) -> Judged | None:
        """Of a trial's files that were kept, the first by `standing` of those that keep all limits; where none does, the
        one that breaks the fewest, of several the fastest. None without a file. Quality counts once the trial is trained
        out."""
        done = trained_out(trial, self.result)
        judged = [(s, broken_limits(s, self.goal, quality_counts=done)) for s in trial.schemes if not s.dropped]

        def order(pair: Judged) -> tuple[float, ...]:
            scheme, broken = pair
            return (len(broken), provable_ms(scheme, self.goal)) if broken else (0, *self.standing(scheme))

        return min(judged, key=order, default=None)


def broken_limits(scheme: SchemeResult, goal: Goal, *, quality_counts: bool) -> tuple[Lack, ...]:
    """The limits that a file does not keep, by how much. One of which the proof is not met is inside no budget, whatever it
    measured."""
    return (*_late(scheme, goal), *_large(scheme, goal), *(_inaccurate(scheme, goal) if quality_counts else ()))


def _late(scheme: SchemeResult, goal: Goal) -> Iterator[Lack]:
    budget, precision, latency = goal.budget, scheme.scheme.precision, scheme.latency
    if not isinstance(latency, MeasuredLatency):
        yield Stated(about="unmeasured", reason=f"the latency of its {precision} file is not measured")
    elif scheme.proof is not None and scheme.disproven:
        yield Stated(about="unproven", reason=f"{precision} is not proven: {scheme.proof.sentence}")
    elif not (scheme.proof and scheme.proof.met) and comparable_ms(scheme, goal) > goal.limit_ms:
        yield LatencyOver(
            precision=precision,
            budget=budget,
            measured_ms=latency.at(budget.percentile),
            comparable_ms=comparable_ms(scheme, goal),
            provable_ms=goal.limit_ms,
        )


def _large(scheme: SchemeResult, goal: Goal) -> Iterator[Lack]:
    limited: tuple[tuple[Literal["size", "memory"], int | None, int | None], ...] = (
        ("size", goal.max_bytes, scheme.artifact.bytes),
        ("memory", goal.max_memory_bytes, scheme.peak_memory_bytes),
    )
    for kind, limit, taken in limited:
        if limit is not None and (taken is None or taken > limit):
            yield BytesOver(kind=kind, precision=scheme.scheme.precision, bytes=taken, limit_bytes=limit)


def _inaccurate(scheme: SchemeResult, goal: Goal) -> Iterator[Lack]:
    if goal.min_quality is None or accurate_enough(scheme, goal.min_quality):
        return
    quality, answers = validation_quality(scheme), answers_of(scheme)
    known = answers is not None and math.isfinite(quality)
    yield TooInaccurate(
        precision=scheme.scheme.precision,
        quality_validation=quality if known else None,
        lower_bound=lower_bound(quality, answers.images) if answers is not None and known else None,
        limit=goal.min_quality,
    )
