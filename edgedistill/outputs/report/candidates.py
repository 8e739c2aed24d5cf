"""The tables of candidates: all of them rung by rung, and what the next ones lacked."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.base.units import format_percent
from edgedistill.documents.artifacts import Trial
from edgedistill.documents.explanation import ExplainResult, OtherStudent, epochs_text
from edgedistill.documents.measurements import MeasuredLatency, PredictedLatency, UnknownLatency
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Budget
from edgedistill.outputs.explain.shown import compared_text
from edgedistill.outputs.explain.winner import winning_trial
from edgedistill.outputs.report.plots.style import STATES
from edgedistill.outputs.report.table import Cell, Column, Row, Table, cell, share_cell, unknown

_NONE = "–"


def quality_after(trial: Trial, epochs: int) -> float | None:
    """Quality (validation) at that rung, None if the candidate did not get there."""
    return next((r.quality_validation for r in trial.rungs if r.epochs == epochs), None)


def climb_sentence(result: BuildResult) -> str:
    """Quality of the student that ships at each rung; empty without one."""
    trial = winning_trial(result)
    if trial is None or not trial.rungs:
        return ""
    steps = [f"{format_percent(r.quality_validation, 2)} after {epochs_text(r.epochs)}" for r in trial.rungs]
    return f"The student that ships reached {', '.join(steps)}."


def _of_teacher(result: BuildResult) -> str:
    return "" if result.budget.share_of_teacher is None else " as shares of the teacher's"


def _taken(result: BuildResult) -> str:
    """How latencies in a table of candidates were taken."""
    return "predicted" if result.status == "unmeasured" else "measured in 1 session in turn with the anchor"


def trial_table(result: BuildResult) -> Table:
    """Every candidate: its quality at each rung, its latency as it was predicted and measured, and what became of it."""
    columns = (
        Column("trial", number=True),
        Column("student"),
        *(Column(f"{epochs} epochs", number=True) for epochs in result.rungs),
        Column("predicted", number=True),
        Column("measured", number=True),
        Column("outcome", wide=True),
    )
    caption = (
        f"Every candidate. Latencies at {result.budget.percentile}{_of_teacher(result)} are {_taken(result)}; "
        f"{result.metric} is the torch model's, measured on {result.data.validation:,} validation images"
    )
    winner = winning_trial(result)
    rows = tuple(Row(_trial_cells(trial, result), ours=trial is winner) for trial in result.trials)
    return Table("Candidates", caption, columns, rows, head=1, tall=True)


def _trial_cells(trial: Trial, result: BuildResult) -> tuple[Cell, ...]:
    rungs = [quality_after(trial, epochs) for epochs in result.rungs]
    sizes = (f"{trial.parameters:,} parameters", f"{trial.multiply_adds:,} multiply-adds")
    outcome = STATES[trial.state]
    return (
        cell(str(trial.number), key=trial.number),
        cell(trial.spec.label, *sizes, key=trial.spec.label),
        *(unknown(_NONE) if share is None else share_cell(share, result.data.validation) for share in rungs),
        _predicted(trial, result.budget),
        _measured(trial, result.budget),
        cell(f"{outcome}: {trial.reason}" if trial.reason else outcome),
    )


def _predicted(trial: Trial, budget: Budget) -> Cell:
    predicted = trial.predicted
    if isinstance(predicted, PredictedLatency):
        interval = f"{budget.figure(predicted.low_ms)} to {budget.figure(predicted.high_ms)}"
        return cell(f"≈ {budget.figure(predicted.latency_ms)}", interval, key=predicted.latency_ms)
    return unknown() if isinstance(predicted, UnknownLatency) else unknown(_NONE)


def _measured(trial: Trial, budget: Budget) -> Cell:
    """A line for each file that was measured, with what was proven or decided of it."""
    lines, found_ms = [], []
    for scheme in trial.schemes:
        if not isinstance(scheme.latency, MeasuredLatency):
            continue
        words = [f"{scheme.scheme.label} {compared_text(scheme.latency, budget.percentile, budget.figure)}"]
        if scheme.proof is not None:
            words.append("proven" if scheme.proof.met else "not proven")
        if scheme.dropped:
            words.append("dropped")
        lines.append(", ".join(words))
        found_ms.append(scheme.latency.comparable(budget.percentile))
    return Cell(tuple(lines), min(found_ms), even=True) if lines else unknown(_NONE)


def other_table(result: BuildResult, explained: ExplainResult) -> Table:
    """What each of the next candidates lacked, the best first."""
    columns = (
        Column("trial", number=True),
        Column("student"),
        Column(f"validation {result.metric}", number=True),
        Column(str(result.budget.percentile), number=True),
        Column("lacked", wide=True),
    )
    others, left_out = explained.others, explained.left_out
    order = "The best first" if explained.winner else "The nearest first"
    caption = (
        f"{order}; {len(others)} of {len(others) + left_out}. Latencies{_of_teacher(result)} are {_taken(result)}; "
        "those with ≈ are predicted"
    )
    return Table("What the next ones lacked", caption, columns, _other_rows(others, result), head=1)


def _other_rows(others: Sequence[OtherStudent], result: BuildResult) -> tuple[Row, ...]:
    budget = result.budget
    rows = []
    for other in others:
        right = other.quality_model if other.quality_validation is None else other.quality_validation
        label = f"{other.label} {other.precision}" if other.precision else other.label
        latency = compared_text(other.latency, budget.percentile, budget.figure).split(" (")[0]
        rows.append(
            Row(
                (
                    cell(str(other.trial), key=other.trial),
                    cell(label),
                    share_cell(right, result.data.validation),
                    cell(latency, key=_latency_key(other, budget)),
                    cell(other.lacked),
                )
            )
        )
    return tuple(rows)


def _latency_key(other: OtherStudent, budget: Budget) -> float | str:
    latency = other.latency
    if isinstance(latency, MeasuredLatency):
        return latency.comparable(budget.percentile)
    if isinstance(latency, PredictedLatency) and latency.percentile is budget.percentile:
        return latency.latency_ms
    return ""
