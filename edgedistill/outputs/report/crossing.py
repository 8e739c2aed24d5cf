"""What cross-validation found of the pilots' runs and of the finalists: over all images, and part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgedistill.base.units import beginning, format_percent
from edgedistill.documents.artifacts import CrossValidation, Trial
from edgedistill.documents.explanation import epochs_text
from edgedistill.documents.results import BuildResult, PilotRun
from edgedistill.outputs.explain.winner import winning_trial
from edgedistill.outputs.report.plots.style import STATES
from edgedistill.outputs.report.table import Cell, Column, Row, Table, cell, unknown

_PILOT: Final = "pilot run"


@dataclass(frozen=True)
class Crossed:
    """What was cross-validated: `kind` is `pilot run`, `finalist`, or what became of another student of the last rung;
    `what` says which. Its quality over `images`, and on each of the parts, of which documents of earlier versions tell
    nothing. `ours` is the student that ships."""

    kind: str
    what: str
    student: str
    quality: float
    images: int
    part_qualities: tuple[float, ...]
    ours: bool = False


def crossed_of(result: BuildResult) -> tuple[Crossed, ...]:
    """The runs of the pilots, then the students of the last rung in the order tried; nothing without cross-validation."""
    winner = winning_trial(result)
    trained_out = ((trial, trial.crossed) for trial in result.trials if trial.crossed is not None)
    return (*_pilots(result), *(_student(trial, crossed, trial is winner) for trial, crossed in trained_out))


def _pilots(result: BuildResult) -> Iterator[Crossed]:
    if (choice := result.recipe) is None:
        return
    yield from (_pilot(f"recipe {run.recipe}", run) for run in choice.pilot if run.images)
    if (assistant := choice.assistant) is not None and assistant.direct.images:
        yield from (_pilot("as an assistant", run) for run in assistant.tried)
        yield _pilot("learns from the teacher", assistant.direct)
        yield _pilot(f"learns from {assistant.assistant}", assistant.through)


def _pilot(what: str, run: PilotRun) -> Crossed:
    told = f"{what}, {epochs_text(run.epochs)}"
    return Crossed(_PILOT, told, run.student, run.quality_validation, run.images or 0, run.part_qualities)


def _student(trial: Trial, crossed: CrossValidation, ours: bool) -> Crossed:
    kind = "finalist" if trial.state == "complete" else STATES[trial.state]
    told = f"trial {trial.number}, {epochs_text(trial.rungs[-1].epochs)}"
    return Crossed(kind, told, crossed.student, crossed.quality, crossed.images, crossed.part_qualities, ours)


def crossed_sentence(result: BuildResult) -> str:
    """How much was cross-validated, and in how many parts; empty without cross-validation."""
    if not (found := crossed_of(result)):
        return ""
    pilots = sum(one.kind == _PILOT for one in found)
    counts = (("pilot run{} ", pilots), ("student{} of the last rung ", len(found) - pilots))
    listed = "and ".join(f"{count} {what.format('s' * (count != 1))}" for what, count in counts if count)
    folds = (trial.crossed.folds for trial in result.trials if trial.crossed is not None)
    parts = max((*folds, *(len(one.part_qualities) for one in found)))
    return (
        f"{listed}{'was' if len(found) == 1 else 'were'} compared by cross-validation of {parts} parts, over the "
        f"{found[0].images:,} labelled images of the training and the validation split."
    )


def crossed_table(result: BuildResult) -> Table | None:
    """A row for each run of a pilot and each student of the last rung; None without cross-validation."""
    if not (found := crossed_of(result)):
        return None
    parts = max(len(one.part_qualities) for one in found)
    columns = (
        Column("compared"),
        Column("student"),
        Column("mean", number=True),
        *(Column(f"part {number + 1}", number=True) for number in range(parts)),
    )
    caption = (
        f"{beginning(result.metric)} on images that the student was not trained on: the mean over all of them, and on each "
        "part. The student that ships was trained on the whole training split"
    )
    rows = tuple(Row((*_cells(one), *_part_cells(one, parts)), ours=one.ours) for one in found)
    return Table("Cross-validation", caption, columns, rows, head=1)


def _cells(one: Crossed) -> tuple[Cell, ...]:
    mean = cell(format_percent(one.quality), f"of {one.images:,}", key=one.quality)
    return cell(one.kind, one.what), cell(one.student), mean


def _part_cells(one: Crossed, parts: int) -> list[Cell]:
    known = [cell(format_percent(quality), key=quality) for quality in one.part_qualities]
    return known + [unknown()] * (parts - len(known))
