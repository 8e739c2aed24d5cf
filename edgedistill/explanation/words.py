"""An explanation in words and rows, as the command line and the report both show it."""

from __future__ import annotations

from edgedistill.artifacts import Latency, MeasuredLatency, PredictedLatency
from edgedistill.explained import (
    BudgetAnswer,
    ExpectedStudent,
    ExplainResult,
    OtherBudgets,
    PredictionRecord,
    SearchCost,
    epochs_text,
)
from edgedistill.results import Constraint, LatencyLimit, MemoryLimit, SizeLimit
from edgedistill.specs import Objective, Percentile
from edgedistill.units import format_bytes, format_ms, format_percent, format_seconds

Row = tuple[str, str, str, str]


def why_sentence(explained: ExplainResult) -> str:
    """Why the winner won, or why nothing did."""
    winner, search = explained.winner, explained.search
    best = "most accurate" if explained.objective is Objective.ACCURACY else "fastest"
    tried = f"{search.trials} tried" if search.trials else "none tried"
    if winner is None:
        return f"Nothing won: of {tried}, no student has a file that keeps every limit and passes the proof."
    many = winner.rivals + 1
    if explained.status == "unmeasured":
        others = f"the most accurate of {many} students" if winner.rivals else "the only student"
        return f"{winner.label} is {others} trained to the end, of {tried}. No latency was measured."
    others = f"the {best} of {many} students" if winner.rivals else "the only student"
    whose = "whose files keep" if winner.rivals else "whose file keeps"
    return f"{winner.label} in {winner.precision} is {others} {whose} every limit, of {tried}, and it passed the proof."


def limit_rows(constraints: tuple[Constraint, ...]) -> tuple[Row, ...]:
    """What was asked for: the limit, what is allowed, what the winner came to, and whether that keeps it."""
    return tuple((*_limit(one), {True: "yes", False: "no", None: "unknown"}[one.kept]) for one in constraints)


def _limit(limit: Constraint) -> tuple[str, str, str]:
    if isinstance(limit, LatencyLimit):
        bound = "unknown" if limit.bound_ms is None else f"at most {format_ms(limit.bound_ms)} (proof)"
        share = limit.budget.share_of_teacher
        of_teacher = "" if share is None else f" ({format_percent(share)} of the teacher's)"
        return (
            f"{limit.budget.percentile} on {limit.target}",
            f"{format_ms(limit.budget.latency_ms)}{of_teacher}",
            bound,
        )
    if isinstance(limit, SizeLimit | MemoryLimit):
        what = "size of the file" if isinstance(limit, SizeLimit) else f"peak memory on {limit.target}"
        return what, format_bytes(limit.limit_bytes), "unknown" if limit.bytes is None else format_bytes(limit.bytes)
    reached = limit.accuracy_validation
    shown = "unknown" if reached is None else format_percent(reached, 2)
    return "validation accuracy", f"at least {format_percent(limit.limit, 2)}", shown


def latency_text(latency: Latency, percentile: Percentile) -> str:
    """`0.211 ms`, `≈ 0.22 ms (0.15 to 0.30 ms)` where it is predicted, `unknown`."""
    if isinstance(latency, MeasuredLatency):
        return format_ms(latency.at(percentile))
    if isinstance(latency, PredictedLatency) and latency.percentile is percentile:
        return f"≈ {format_ms(latency.latency_ms)} ({format_ms(latency.low_ms)} to {format_ms(latency.high_ms)})"
    return "unknown"


def budget_rows(budgets: OtherBudgets) -> tuple[Row, ...]:
    """Latency from which on a budget has the accuracy beside it, how that is known, and of whom; sorted by latency."""
    rows: list[tuple[float, Row]] = []
    for step in budgets.measured:
        how = "measured" if step.trained_out else f"measured after {epochs_text(step.epochs)}"
        row = (format_ms(step.latency_ms), format_percent(step.accuracy_validation, 2), how)
        rows.append((step.latency_ms, (*row, f"trial {step.trial}, {step.label}, {step.precision}")))
    for line in budgets.interpolated:
        first, second = line.between
        row = (f"≈ {format_ms(line.latency_ms)}", f"≈ {format_percent(line.accuracy_validation, 2)}", "interpolated")
        rows.append((line.latency_ms, (*row, f"between trials {first.trial} and {second.trial}")))
    for one in budgets.expected:
        row = (latency_text(one.latency, budgets.percentile), _accuracy(one), "predicted")
        student = f"{one.label}, {one.latency.precision}"
        whose = f"{student}, not trained" if one.trial is None else f"trial {one.trial}, {student}, not measured"
        rows.append((one.latency.latency_ms, (*row, whose)))
    return tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))


def _accuracy(one: ExpectedStudent) -> str:
    if one.accuracy_validation_low is None or one.accuracy_validation_high is None:
        return f"{format_percent(one.accuracy_validation, 2)} (torch model)"
    low, high = format_percent(one.accuracy_validation_low), format_percent(one.accuracy_validation_high)
    return f"≈ {format_percent(one.accuracy_validation)} ({low} to {high})"


def answer_sentences(answer: BudgetAnswer) -> tuple[str, ...]:
    """What one budget would give, the surest first."""
    limit, percentile = answer.budget.latency_ms, answer.budget.percentile
    said = []
    if (step := answer.measured) is not None:
        partly = "" if step.trained_out else f", after {epochs_text(step.epochs)} only"
        said.append(
            f"measured: {format_percent(step.accuracy_validation, 2)} of the validation split by trial {step.trial}, "
            f"{step.label} in {step.precision}, at {format_ms(step.latency_ms)}{partly}; its proof is still to be taken"
        )
    if (line := answer.interpolated) is not None:
        first, second = line.between
        said.append(
            f"interpolated: about {format_percent(line.accuracy_validation, 2)} by a student between trial {first.trial} "
            f"({format_ms(first.latency_ms)}) and trial {second.trial} ({format_ms(second.latency_ms)})"
        )
    if (one := answer.expected) is not None:
        whose = "not trained" if one.trial is None else f"trial {one.trial}, not measured"
        high = one.latency.high_ms
        risk = f"; its interval reaches {format_ms(high)}, over the budget" if high > limit else ""
        said.append(
            f"predicted: {_accuracy(one)} by {one.label} in {one.latency.precision}, {whose}, at "
            f"{latency_text(one.latency, percentile)}{risk}"
        )
    return tuple(said) or (f"unknown: {answer.reason}",)


def cost_sentence(search: SearchCost) -> str:
    """What the search spent."""
    states = (
        ("went through all rungs", search.complete),
        ("pruned", search.pruned),
        ("turned away by a measurement", search.over_budget),
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
