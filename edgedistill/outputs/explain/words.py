"""An explanation in words and rows, as the command line and the report both show it."""

from __future__ import annotations

import math

from edgedistill.base.units import format_bytes, format_ms, format_percent, format_seconds
from edgedistill.documents.explanation import (
    BudgetAnswer,
    BudgetStep,
    ExpectedStudent,
    ExplainResult,
    OtherBudgets,
    PredictionRecord,
    SearchCost,
    WinnerExplained,
    epochs_text,
)
from edgedistill.documents.results import Constraint, LatencyLimit, MemoryLimit, QualityLimit, SizeLimit
from edgedistill.documents.specs import Objective
from edgedistill.outputs.explain.shown import predicted_text, proof_range, validation_text

Row = tuple[str, str, str, str]


def why_sentence(explained: ExplainResult) -> str:
    """Why the winner won, or why nothing did."""
    winner, search = explained.winner, explained.search
    tried = f"{search.trials} tried" if search.trials else "none tried"
    if winner is None:
        return f"Nothing won: of {tried}, no student has a file that keeps every limit and is proven."
    if explained.status == "unmeasured":
        others = f"the most accurate of {winner.rivals + 1} students" if winner.rivals else "the only student"
        return f"{winner.label} is {others} trained to the end, of {tried}. No latency was measured."
    return f"{winner.label} in {winner.precision} is {_place(explained, winner)}, of {tried}, and it is proven."


def _place(explained: ExplainResult, winner: WinnerExplained) -> str:
    """The winner's place among those that kept every limit, by the rule that chose it."""
    if not winner.rivals:
        return "the only student whose file keeps every limit"
    among = f"of {winner.rivals + 1} students whose files keep every limit"
    if explained.objective is Objective.LATENCY:
        return f"the fastest {among}"
    if sum(isinstance(limit, LatencyLimit) for limit in explained.constraints) > 1:
        return f"the best by its least accurate file {among}"
    if not winner.equals:
        return f"the most accurate {among}"
    margin = f"within {format_percent(winner.quality_margin).removesuffix('%')} points, 95% confidence"
    return f"the fastest of {winner.equals + 1} students as accurate as the most accurate one ({margin}), {among}"


def limit_rows(constraints: tuple[Constraint, ...]) -> tuple[Row, ...]:
    """What was asked for: the limit, what is allowed, what the winner came to, and whether that keeps it."""
    return tuple((*_limit(one), {True: "yes", False: "no", None: "unknown"}[one.kept]) for one in constraints)


def _limit(limit: Constraint) -> tuple[str, str, str]:
    if isinstance(limit, LatencyLimit):
        return f"{limit.budget.percentile} on {limit.target}", limit.budget.claim, proof_range(limit.proof)
    if isinstance(limit, SizeLimit | MemoryLimit):
        what = "size of the file" if isinstance(limit, SizeLimit) else f"peak memory on {limit.target}"
        return what, format_bytes(limit.limit_bytes), "unknown" if limit.bytes is None else format_bytes(limit.bytes)
    return "validation quality", f"at least {format_percent(limit.limit, 2)}", _reached(limit)


def _reached(limit: QualityLimit) -> str:
    unresolved = "" if limit.resolved else "unresolved: the split is too small to tell"
    if limit.quality_validation is None or limit.lower_bound is None:
        return unresolved or "unknown"
    shown = format_percent(limit.quality_validation, 2)
    return f"{shown}, {unresolved or f'above {format_percent(limit.lower_bound, 2)} with 95% confidence'}"


def budget_rows(budgets: OtherBudgets, most: int | None = None) -> tuple[Row, ...]:
    """Latency from which on a budget has the quality beside it, how that is known, and of which file; sorted by latency. At
    most `most` of them: those with the least ratio to the build's own budget."""
    rows: list[tuple[float, Row]] = []
    shown, percentile = budgets.budget.in_its_unit, budgets.budget.percentile
    for step in budgets.measured:
        how = "measured" if step.trained_out else f"measured after {epochs_text(step.epochs)}"
        how += {"none": "", "met": ", proven for ", "not_met": ", not proven for "}[step.proof] + _proof_limit(step)
        row = (shown(step.latency_ms), validation_text(step.quality_validation, step.images), how)
        rows.append((step.latency_ms, (*row, f"trial {step.trial}, {step.label}, {step.precision}")))
    for line in budgets.interpolated:
        first, second = line.between
        row = (f"≈ {shown(line.latency_ms)}", f"≈ {format_percent(line.quality_validation, 2)}", "interpolated")
        rows.append((line.latency_ms, (*row, f"between trials {first.trial} and {second.trial}")))
    for one in budgets.expected:
        row = (predicted_text(one.latency, percentile, shown), _quality(one), "predicted")
        student = f"{one.label}, {one.latency.precision}"
        whose = f"{student}, not trained" if one.trial is None else f"trial {one.trial}, {student}, not measured"
        rows.append((one.latency.latency_ms, (*row, whose)))
    nearest = sorted(rows, key=lambda pair: abs(math.log(pair[0] / budgets.budget.latency_ms)))[:most]
    return tuple(row for _, row in sorted(nearest, key=lambda pair: pair[0]))


def _quality(one: ExpectedStudent) -> str:
    if one.quality_validation_low is None or one.quality_validation_high is None:
        return f"{format_percent(one.quality_validation, 2)} (torch model)"
    low, high = format_percent(one.quality_validation_low), format_percent(one.quality_validation_high)
    return f"≈ {format_percent(one.quality_validation)} ({low} to {high})"


def answer_sentences(answer: BudgetAnswer) -> tuple[str, ...]:
    """What one budget would give, the surest first."""
    limit, percentile, shown = answer.budget.latency_ms, answer.budget.percentile, answer.budget.in_its_unit
    said = []
    if (step := answer.measured) is not None:
        partly = "" if step.trained_out else f", after {epochs_text(step.epochs)} only"
        said.append(
            f"measured: {validation_text(step.quality_validation, step.images)} of the validation split by trial "
            f"{step.trial}, {step.label} in {step.precision}, at {shown(step.latency_ms)}{partly}; "
            f"{_proof_to_come(step, limit)}"
        )
    if (line := answer.interpolated) is not None:
        first, second = line.between
        said.append(
            f"interpolated: about {format_percent(line.quality_validation, 2)} by a student between trial {first.trial} "
            f"({shown(first.latency_ms)}) and trial {second.trial} ({shown(second.latency_ms)})"
        )
    if (one := answer.expected) is not None:
        whose = "not trained" if one.trial is None else f"trial {one.trial}, not measured"
        high = one.latency.high_ms
        risk = f"; its interval reaches {shown(high)}, over the budget" if high > limit else ""
        said.append(
            f"predicted: {_quality(one)} by {one.label} in {one.latency.precision}, {whose}, at "
            f"{predicted_text(one.latency, percentile, shown)}{risk}"
        )
    return tuple(said) or (f"unknown: {answer.reason}",)


def _proof_limit(step: BudgetStep) -> str:
    """The budget for which a proof was tried: `0.412 ms`, `20.0% of the teacher's`; nothing where none was."""
    if step.proof_share is not None:
        return f"{format_percent(step.proof_share)} of the teacher's"
    return "" if step.proof_ms is None else format_ms(step.proof_ms)


def _proof_to_come(step: BudgetStep, limit_ms: float) -> str:
    """What is proven of a step for a budget of `limit_ms`."""
    if step.proof == "none" or step.proof_ms is None:
        return "its proof is still to be taken"
    tried = _proof_limit(step)
    if step.proof == "not_met":
        return f"its proof for {tried} is not met, one for this budget is still to be taken"
    return f"it is proven for {tried}" + ("" if step.proof_ms <= limit_ms else ", not yet for this budget")


def cost_sentence(search: SearchCost) -> str:
    """What the search spent."""
    states = (
        ("went through all rungs", search.complete),
        ("pruned", search.pruned),
        ("rejected", search.over_budget),
        ("failed", search.failed),
    )
    told = ", ".join(f"{count} {words}" for words, count in states if count)
    return (
        f"{search.trials} trials{f' ({told})' if told else ''}, {search.rungs} rungs of {epochs_text(search.epochs)} in "
        f"all, {search.files_measured} files measured; the run that finished the build took {format_seconds(search.seconds)}"
    )


def prediction_sentence(record: PredictionRecord | None) -> str:
    """How the latencies came out that were predicted before a trial began."""
    if record is None:
        return "No prediction can be held against a measurement."
    calibrated = (
        f"{record.calibrated_held} of {record.calibrated} calibrated ones" if record.calibrated else "none calibrated"
    )
    return (
        f"{record.held} of {record.compared} predicted intervals held what was measured ({calibrated}); median error "
        f"{format_percent(record.median_error)}."
    )
