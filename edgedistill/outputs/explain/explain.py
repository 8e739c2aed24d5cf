"""A build explained, from its result and its profiles."""

from __future__ import annotations

from pathlib import Path

from edgedistill.documents.explanation import ExplainResult, SearchCost
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.budgets import answer_budget, other_budgets
from edgedistill.outputs.explain.build_folder import ReportProfiles
from edgedistill.outputs.explain.operators import operator_times
from edgedistill.outputs.explain.others import other_students
from edgedistill.outputs.explain.predictions import prediction_record
from edgedistill.outputs.explain.winner import explain_winner

OTHERS = 10


def explain_build(
    result: BuildResult, profiles: ReportProfiles, path: Path, *, budget: str | None = None, students: int = OTHERS
) -> ExplainResult:
    """`result` explained, with at most `students` of those that did not win."""
    others = other_students(result)
    return ExplainResult(
        edgedistill_version=result.edgedistill_version,
        path=str(path),
        build_key=result.build_key,
        status=result.status,
        verdict=result.verdict,
        target=result.target,
        objective=result.objective,
        constraints=result.constraints,
        validation_images=result.data.validation,
        winner=explain_winner(result),
        others=others[:students],
        left_out=max(0, len(others) - students),
        operators=operator_times(result, profiles.winner),
        budgets=other_budgets(result),
        asked=None if budget is None else answer_budget(result, budget),
        predictions=prediction_record(result),
        search=search_cost(result),
    )


def search_cost(result: BuildResult) -> SearchCost:
    """Why the search went no further, and what it had spent by then."""
    trials = result.trials
    counts = {state: sum(t.state == state for t in trials) for state in ("failed", "pruned", "over_budget", "complete")}
    return SearchCost(
        stopped=result.stopped,
        trials=len(trials),
        **counts,
        rungs=sum(len(t.rungs) for t in trials),
        epochs=sum(t.rungs[-1].epochs for t in trials if t.rungs),
        files_measured=sum(isinstance(s.latency, MeasuredLatency) for t in trials for s in t.schemes),
        seconds=result.seconds,
    )
