"""What another budget would give: measured students first, a line between two of them, then what models expect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from edgedistill.documents.artifacts import SchemeResult, Trial, Verified
from edgedistill.documents.explanation import BudgetAnswer, BudgetStep, ExpectedStudent, Interpolation, OtherBudgets
from edgedistill.documents.measurements import MeasuredLatency, PredictedLatency
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Budget, BudgetRequest, Objective, Percentile
from edgedistill.outputs.explain.limits import goal_of, trained_out
from edgedistill.selection.goal import misses_beside_latency, provable_ms, validation_quality, within_margin
from edgedistill.selection.pareto import frontier

INTERPOLATE_WITHIN = 2.0
"""Between students further apart in latency than by this factor, a straight line is a guess and nothing more."""


def other_budgets(result: BuildResult) -> OtherBudgets:
    """The frontier at the build's percentile, over files that keep all limits but the latency budget."""
    percentile = result.budget.percentile
    steps = measured_steps(result, percentile)
    lines = [_between(left, right) for left, right in _neighbours(steps)]
    return OtherBudgets(
        budget=result.budget,
        measured=steps,
        interpolated=tuple(line for line in lines if line is not None),
        expected=expected_students(result, percentile),
        would_do_ms=result.budget_that_would_do_ms,
    )


def answer_budget(result: BuildResult, text: str) -> BudgetAnswer:
    """What `text` ("3ms", "20%@p99"; the build's percentile unless one is named) would give. Raises InputError for what is
    no budget, and for a share of a teacher that was not measured."""
    request = BudgetRequest.parse(text if "@" in text else f"{text}@{result.budget.percentile}")
    teacher = result.teacher.latency
    theirs = teacher.comparable(request.percentile) if isinstance(teacher, MeasuredLatency) else None
    budget = request.resolve(theirs)
    limit_ms, percentile = budget.latency_ms, budget.percentile
    files, expected = _files(result, percentile), expected_students(result, percentile)
    steps, fits = [step for step, _ in files], [pair for pair in files if pair[0].inside(limit_ms)]
    fastest = result.objective is Objective.LATENCY
    # The most that is measured there; the file of the answer may be a faster one, as accurate within the margin.
    most = (fits[0] if fastest else fits[-1])[0] if fits else None
    measured = next((s for s, file in fits if fastest or within_margin(file, fits[-1][1], goal_of(result))), None)
    line = None if fastest else _line_at(steps, limit_ms, most)
    likely = [one for one in expected if one.latency.latency_ms <= limit_ms]
    if most is not None:
        likely = [one for one in likely if _better(one, most, fastest)]
    best = max(likely, key=lambda one: -one.latency.latency_ms if fastest else one.quality_validation, default=None)
    kind: Literal["measured", "predicted", "unknown"] = "measured" if measured else "predicted" if best else "unknown"
    return BudgetAnswer(
        kind=kind,
        budget=budget,
        measured=measured,
        interpolated=line,
        expected=best,
        reason="" if kind != "unknown" else _why_unknown(result, budget, steps, expected),
    )


def measured_steps(result: BuildResult, percentile: Percentile) -> tuple[BudgetStep, ...]:
    """The measured files, kept and inside all limits but the latency budget, that no other beats in both validation quality
    and latency at `percentile`: sorted by latency, each what a budget from there on has at least."""
    return tuple(step for step, _ in _files(result, percentile))


def _files(result: BuildResult, percentile: Percentile) -> tuple[tuple[BudgetStep, SchemeResult], ...]:
    """`measured_steps`, each with its file."""
    goal = goal_of(result)
    steps: list[tuple[BudgetStep, SchemeResult]] = []
    for trial in result.trials:
        for scheme in trial.schemes:
            latency, quality = scheme.latency, validation_quality(scheme)
            if scheme.dropped or misses_beside_latency(scheme, goal, trained_out=True):
                continue
            if not isinstance(latency, MeasuredLatency) or not isinstance(scheme.verification, Verified):
                continue
            proof = _proof(scheme, goal.budget.percentile, percentile)
            step = BudgetStep(
                trial=trial.number,
                label=trial.spec.label,
                precision=scheme.scheme.precision,
                latency_ms=max(latency.comparable(percentile), provable_ms(scheme, goal) * (proof == "not_met")),
                quality_validation=quality,
                images=scheme.verification.parity.images,
                epochs=trial.rungs[-1].epochs if trial.rungs else 0,
                trained_out=trained_out(trial, result),
                proof=proof,
                proof_ms=None if proof == "none" else goal.budget.latency_ms,
                proof_share=None if proof == "none" else goal.budget.share_of_teacher,
            )
            steps.append((step, scheme))
    return frontier(steps, latency_ms=lambda s: s[0].latency_ms, quality=lambda s: s[0].quality_validation)


def _proof(scheme: SchemeResult, tried: Percentile, percentile: Percentile) -> Literal["none", "met", "not_met"]:
    """What a file's proof at the percentile `tried` says of it at `percentile`: a proof that is met holds for lower ones
    too, one that is not met for higher ones."""
    if scheme.proof is None:
        return "none"
    if scheme.disproven:
        return "not_met" if percentile.fraction >= tried.fraction else "none"
    return "met" if percentile.fraction <= tried.fraction else "none"


def expected_students(result: BuildResult, percentile: Percentile) -> tuple[ExpectedStudent, ...]:
    """Students of which models expect something at `percentile`, sorted by latency: those that were not trained, and
    those that were trained to the end and not measured."""
    least = goal_of(result).min_quality or 0.0
    untrained = [
        ExpectedStudent(
            trial=None,
            label=point.spec.label,
            spec=point.spec,
            latency=point.latency,
            quality_validation=point.quality_validation,
            quality_validation_low=point.quality_validation_low,
            quality_validation_high=point.quality_validation_high,
        )
        for point in result.predicted
    ]
    trained = [
        ExpectedStudent(
            trial=trial.number,
            label=trial.spec.label,
            spec=trial.spec,
            latency=trial.predicted,
            quality_validation=trial.rungs[-1].quality_validation,
            quality_validation_low=None,
            quality_validation_high=None,
        )
        for trial in result.trials
        if trained_out(trial, result) and not _measured(trial) and isinstance(trial.predicted, PredictedLatency)
    ]
    students = [
        one
        for one in (*untrained, *trained)
        if one.latency.percentile is percentile and one.quality_validation >= least
    ]
    return frontier(students, latency_ms=lambda one: one.latency.latency_ms, quality=lambda one: one.quality_validation)


def _measured(trial: Trial) -> bool:
    return any(isinstance(scheme.latency, MeasuredLatency) for scheme in trial.schemes)


def _neighbours(steps: Sequence[BudgetStep]) -> list[tuple[BudgetStep, BudgetStep]]:
    """Pairs to interpolate between: students trained to the end, next to one another by latency."""
    whole = [step for step in steps if step.trained_out]
    near = [pair for pair in pairwise(whole) if pair[0].trial != pair[1].trial]
    return [(left, right) for left, right in near if right.latency_ms <= INTERPOLATE_WITHIN * left.latency_ms]


def _between(left: BudgetStep, right: BudgetStep, at_ms: float | None = None) -> Interpolation | None:
    """A straight line of quality over the logarithm of latency, at `at_ms`, by default half-way."""
    if not left.latency_ms < right.latency_ms:
        return None
    middle_ms = math.sqrt(left.latency_ms * right.latency_ms) if at_ms is None else at_ms
    share = math.log(middle_ms / left.latency_ms) / math.log(right.latency_ms / left.latency_ms)
    rise = right.quality_validation - left.quality_validation
    return Interpolation(
        latency_ms=middle_ms, quality_validation=left.quality_validation + share * rise, between=(left, right)
    )


def _line_at(steps: Sequence[BudgetStep], limit_ms: float, measured: BudgetStep | None) -> Interpolation | None:
    """Where the budget lies between two students, what one in between might reach; None where that says less than what is
    measured."""
    around = [(a, b) for a, b in _neighbours(steps) if a.latency_ms < limit_ms < b.latency_ms]
    line = _between(*around[0], at_ms=limit_ms) if around else None
    floor = measured.quality_validation if measured else 0.0
    return line if line is not None and line.quality_validation > floor else None


def _better(expected: ExpectedStudent, measured: BudgetStep, fastest: bool) -> bool:
    if fastest:
        return expected.latency.latency_ms < measured.latency_ms
    return expected.quality_validation > measured.quality_validation


def _why_unknown(
    result: BuildResult, budget: Budget, steps: Sequence[BudgetStep], expected: Sequence[ExpectedStudent]
) -> str:
    if steps:
        what = f"the fastest student measured takes {budget.in_its_unit(steps[0].latency_ms)} at {budget.percentile}"
    else:
        what = "no file was measured that keeps the other limits"
    if expected:
        nearest = budget.in_its_unit(expected[0].latency.latency_ms)
        return f"{what}, the fastest that is predicted {nearest}"
    other = budget.percentile is not result.budget.percentile
    return f"{what}, and nothing is predicted{f' at {budget.percentile}' if other else ''}"
