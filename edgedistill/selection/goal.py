"""Which measured files keep a goal's limits, and which of two is the better one."""

from __future__ import annotations

import math

from edgedistill.base.intervals import Answers
from edgedistill.base.units import format_bytes, format_percent
from edgedistill.documents.artifacts import SchemeResult, Verified, answers_of
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.specs import Goal, Objective


def validation_quality(result: SchemeResult) -> float:
    """Validation quality of a file that was run; below any other where it was not."""
    return result.verification.quality_validation if isinstance(result.verification, Verified) else -math.inf


def ranked_quality(result: SchemeResult) -> float:
    """What finalists are ranked by: the quality of a file's student in cross-validation, else the file's on the validation
    split."""
    return validation_quality(result) if result.crossed is None else result.crossed.quality


def comparable_ms(result: SchemeResult, goal: Goal) -> float:
    """Latency of a measured file at the goal's percentile, as files are compared; above any other where it was not
    measured."""
    latency = result.latency
    return latency.comparable(goal.budget.percentile) if isinstance(latency, MeasuredLatency) else math.inf


def provable_ms(result: SchemeResult, goal: Goal) -> float:
    """The least budget in ms that the file may be shown inside of: its comparable latency, or more where a proof of it was
    tried and what it saw bounds the latency no better."""
    proof, comparable = result.proof, comparable_ms(result, goal)
    if proof is None or proof.met:
        return comparable
    ms_of_one = goal.budget.latency_ms / proof.limit if proof.share else 1.0
    return max(comparable, max(proof.bound or 0.0, *proof.values) * ms_of_one)


def misses(result: SchemeResult, goal: Goal, *, trained_out: bool) -> tuple[str, ...]:
    """The limits that a measured file does not keep, each in words. Quality counts once the student is `trained_out`:
    before the last rung it still rises. What was not measured keeps no limit."""
    return (*_late(result, goal), *misses_beside_latency(result, goal, trained_out=trained_out))


def _late(result: SchemeResult, goal: Goal) -> tuple[str, ...]:
    budget, label = goal.budget, result.scheme.label
    if not isinstance(result.latency, MeasuredLatency):
        return (f"latency in {label} is not measured",)
    if result.proof is not None:
        return () if result.proof.met else (f"the proof of {label} is not met: {result.proof.sentence}",)
    found_ms = comparable_ms(result, goal)
    if found_ms <= goal.limit_ms:
        return ()
    told = f"measured {budget.in_its_unit(found_ms)} in {label}, budget {budget.claim}"
    if found_ms > budget.latency_ms:
        return (told,)
    return (f"{told}, of which {budget.in_its_unit(goal.limit_ms)} can be proven where sessions differ as here",)


def misses_beside_latency(result: SchemeResult, goal: Goal, *, trained_out: bool) -> tuple[str, ...]:
    """`misses` without the budget."""
    found = []
    size, memory = result.artifact.bytes, result.peak_memory_bytes
    if goal.max_bytes is not None and size > goal.max_bytes:
        found.append(
            f"{format_bytes(size)} in {result.scheme.label}, at most {format_bytes(goal.max_bytes)} are allowed"
        )
    if goal.max_memory_bytes is not None and (memory is None or memory > goal.max_memory_bytes):
        taken = "peak memory that is not measured" if memory is None else f"{format_bytes(memory)} of peak memory"
        found.append(f"{taken} in {result.scheme.label}, at most {format_bytes(goal.max_memory_bytes)} are allowed")
    if trained_out and goal.min_quality is not None and not accurate_enough(result, goal.min_quality):
        quality = validation_quality(result)
        reached = format_percent(quality, 2) if math.isfinite(quality) else "an unknown share"
        found.append(
            f"{reached} of the validation split in {result.scheme.label}, at least "
            f"{format_percent(goal.min_quality, 2)} are wanted with 95% confidence"
        )
    return tuple(found)


def rank(result: SchemeResult, goal: Goal) -> tuple[float, float]:
    """Sorts files that keep all limits for showing them; which of them wins depends on the others (`in_order`)."""
    quality, latency_ms = -ranked_quality(result), comparable_ms(result, goal)
    return (quality, latency_ms) if goal.objective is Objective.QUALITY else (latency_ms, quality)


def accurate_enough(result: SchemeResult, limit: float) -> bool:
    """Whether a file's validation quality reaches `limit` with 95% confidence, or by what was seen where the split is too
    small to tell. False where it was not run."""
    answers = answers_of(result) if isinstance(result.verification, Verified) else None
    return answers is not None and answers.above(limit)


def _compared(result: SchemeResult, other: SchemeResult) -> tuple[Answers, Answers] | None:
    """The answers by which two files are compared: those of their students in cross-validation, else, and for two files of
    one student, their own. None where these were not run."""
    ours, theirs = result.crossed, other.crossed
    if ours is not None and theirs is not None and ours.student != theirs.student:
        return Answers(ours.quality, ours.images, ours.right), Answers(theirs.quality, theirs.images, theirs.right)
    own = answers_of(result), answers_of(other)
    return None if own[0] is None or own[1] is None else (own[0], own[1])


def within_margin(result: SchemeResult, best: SchemeResult, goal: Goal) -> bool:
    """Whether a file is no less accurate than `best` by more than the goal's margin, on the same images with 95% confidence.
    Where the two cannot be compared image by image, it has to be as accurate."""
    compared = _compared(result, best)
    if compared is None or result is best:
        return result is best
    ours, theirs = compared
    bound = ours.lower_difference(theirs)
    return ours.quality >= theirs.quality or (bound is not None and bound > -goal.quality_margin)


def surely_more_accurate(result: SchemeResult, other: SchemeResult) -> bool:
    """Whether a file is more accurate than `other`, on the same images with 95% confidence. False where the two cannot be
    compared image by image."""
    compared = _compared(result, other)
    bound = compared[0].lower_difference(compared[1]) if compared is not None else None
    return bound is not None and bound > 0
