"""What was tried and is not in the package, and why: candidates, files and precisions in one list."""

from __future__ import annotations

from collections.abc import Iterator

from edgedistill.documents.artifacts import SchemeResult, Trial
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.winner import winning_trial
from edgedistill.outputs.report.plots.style import STATES
from edgedistill.outputs.report.table import Column, Row, Table, cell

_COLUMNS = (Column("what"), Column("kind"), Column("outcome"), Column("why", wide=True))

Entry = tuple[str, str, str, str]
"""What it is, of which kind, its outcome, and why."""


def left_out_table(result: BuildResult) -> Table:
    """Everything that was rejected, not proven, dropped, pruned or failed, sorted by outcome in this order."""
    rows = tuple(Row(tuple(cell(text) for text in entry)) for entry in left_out(result))
    caption = f"{len(rows)} in all; what was measured names its figures"
    return Table("Rejected, pruned, dropped or failed", caption, _COLUMNS, rows, tall=True)


def left_out(result: BuildResult) -> list[Entry]:
    """The rows of `left_out_table`. Candidates that went through all rungs and keep every limit are not among them: what
    these lacked stands beside the winner."""
    files = [(trial, scheme) for trial in result.trials for scheme in trial.schemes]
    return [
        *_trials(result, "over_budget"),
        *((_file(t, s), "file", "not proven", s.proof.sentence) for t, s in files if s.proof and s.disproven),
        *((f"{d.format} {d.precision} of the student", "precision", "dropped", d.reason) for d in result.dropped),
        *((_file(t, s), "precision", "dropped", s.dropped) for t, s in files if s.dropped and not _told(t, s, result)),
        *_trials(result, "pruned"),
        *_trials(result, "failed"),
    ]


def _trials(result: BuildResult, state: str) -> Iterator[Entry]:
    for trial in result.trials:
        if trial.state == state:
            yield f"trial {trial.number}, {trial.spec.label}", "candidate", STATES[state], trial.reason


def _file(trial: Trial, scheme: SchemeResult) -> str:
    return f"trial {trial.number}, {trial.spec.label}, {scheme.scheme.label}"


def _told(trial: Trial, scheme: SchemeResult, result: BuildResult) -> bool:
    """Whether the student's own list names this precision already."""
    found = (scheme.artifact.format, scheme.scheme.precision)
    return trial is winning_trial(result) and found in {(d.format, d.precision) for d in result.dropped}
