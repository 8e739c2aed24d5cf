"""Which measured files keep a goal's limits, and which of two is the better one."""

from __future__ import annotations

import math

from edgedistill.artifacts import MeasuredLatency, SchemeResult, Verified
from edgedistill.specs import Goal, Objective
from edgedistill.units import format_bytes, format_ms, format_percent


def validation_accuracy(result: SchemeResult) -> float:
    """Validation accuracy of a file that was run; below any other where it was not."""
    return result.verification.accuracy_validation if isinstance(result.verification, Verified) else -math.inf


def comparable_ms(result: SchemeResult, goal: Goal) -> float:
    """Latency of a measured file at the goal's percentile and the teacher's speed of processor; above any other where it was
    not measured."""
    latency = result.latency
    return latency.comparable(goal.budget.percentile) if isinstance(latency, MeasuredLatency) else math.inf


def misses(result: SchemeResult, goal: Goal, *, trained_out: bool) -> tuple[str, ...]:
    """The limits that a measured file does not keep, each in words. Accuracy counts once the student is `trained_out`:
    before the last rung it still rises. What was not measured keeps no limit."""
    return (*_late(result, goal), *misses_beside_latency(result, goal, trained_out=trained_out))


def _late(result: SchemeResult, goal: Goal) -> tuple[str, ...]:
    budget = goal.budget
    if not isinstance(result.latency, MeasuredLatency):
        return (f"latency in {result.scheme.label} is not measured",)
    if comparable_ms(result, goal) <= budget.latency_ms:
        return ()
    measured = format_ms(result.latency.at(budget.percentile))
    return (
        f"measured {budget.percentile} {measured} in {result.scheme.label}{_speed(result.latency, goal)}, "
        f"budget {format_ms(budget.latency_ms)}",
    )


def misses_beside_latency(result: SchemeResult, goal: Goal, *, trained_out: bool) -> tuple[str, ...]:
    """`misses` without the budget."""
    found = []
    size = result.artifact.bytes
    if goal.max_bytes is not None and size > goal.max_bytes:
        found.append(
            f"{format_bytes(size)} in {result.scheme.label}, at most {format_bytes(goal.max_bytes)} are allowed"
        )
    if goal.max_memory_bytes is not None:
        memory = result.peak_memory_bytes
        if memory is None or memory > goal.max_memory_bytes:
            taken = "peak memory that is not measured" if memory is None else f"{format_bytes(memory)} of peak memory"
            found.append(f"{taken} in {result.scheme.label}, at most {format_bytes(goal.max_memory_bytes)} are allowed")
    if trained_out and goal.min_accuracy is not None:
        accuracy = validation_accuracy(result)
        if accuracy < goal.min_accuracy:
            reached = format_percent(accuracy, 2) if math.isfinite(accuracy) else "an unknown share"
            found.append(
                f"{reached} of the validation split in {result.scheme.label}, at least "
                f"{format_percent(goal.min_accuracy, 2)} are wanted"
            )
    return tuple(found)


def rank(result: SchemeResult, goal: Goal) -> tuple[float, float]:
    """Sorts files that keep all limits, the best first."""
    accuracy, latency_ms = -validation_accuracy(result), comparable_ms(result, goal)
    return (accuracy, latency_ms) if goal.objective is Objective.ACCURACY else (latency_ms, accuracy)


def _speed(latency: MeasuredLatency, goal: Goal) -> str:
    if latency.slowdown == 1:
        return ""
    slower = f"{latency.slowdown:.2f} times as slow as" if latency.slowdown > 1 else "faster than"
    comparable = format_ms(latency.comparable(goal.budget.percentile))
    return f" (processor {slower} for the teacher: comparable with {comparable})"
