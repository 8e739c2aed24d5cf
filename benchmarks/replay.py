"""Students that brute_force.py trained and measured, as a search's lab plays them back: a training costs what it cost, a
comparison gives the ratio that was measured. A proof is taken anew where the files are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorded_files import RecordedFiles
from torch import nn

from edgedistill.base.errors import TrialFailure
from edgedistill.documents.artifacts import SchemeResult, TrainedStudent
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.measurements import MeasuredLatency, Proof
from edgedistill.documents.specs import Budget, Goal, Precision, StudentSpec, Target
from edgedistill.networks.space import Candidate, enumerate_space
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.measure import prove
from edgedistill.pipeline.workbench import Workbench
from edgedistill.selection.goal import comparable_ms
from edgedistill.selection.lab import Figures, Training, figures_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Student:
    """A row of brute force."""

    candidate: Candidate
    quality: tuple[float, ...]
    seconds: tuple[float, ...]
    files: tuple[SchemeResult, ...]

    def kept(self, goal: Goal) -> list[SchemeResult]:
        return [f for f in self.files if not f.dropped and comparable_ms(f, goal) <= goal.budget.latency_ms]


@dataclass(eq=False)
class ReplayLab:
    """A lab that looks everything up, and counts what it would have cost; proofs are taken of `files`, where they are
    given."""

    students: dict[StudentSpec, Student]
    target: Target
    files: RecordedFiles | None
    spent_s: float = 0.0
    measured: int = 0
    measurable: bool = True

    @property
    def device(self) -> str:
        return self.target.name

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return self.target.precisions

    def probe(self, candidate: Candidate) -> tuple[Figures, ...]:
        self.measured += 1
        return tuple(figures_of(self.students[candidate.spec].files))

    def train(self, wanted: Sequence[Training]) -> list[TrainedStudent | TrialFailure]:
        return [self._trained(one) for one in wanted]

    def _trained(self, wanted: Training) -> TrainedStudent:
        student = self.students[wanted.spec]
        self.spent_s += student.seconds[wanted.rung]
        return TrainedStudent(
            spec=wanted.spec,
            weights=Path("recorded"),
            epochs=wanted.rung,
            total_epochs=len(student.quality),
            quality_validation=student.quality[wanted.rung],
            train_seconds=student.seconds[wanted.rung],
        )

    def realise(self, trained: TrainedStudent, *, last: bool) -> tuple[SchemeResult, ...]:
        self.measured += 1
        return self.students[trained.spec].files

    def cross_validate(self, trained: TrainedStudent) -> None:
        """Nothing of it was recorded."""

    def prove(self, trained: TrainedStudent, result: SchemeResult, budget: Budget) -> Proof:
        return proven(self, trained.spec, result, budget)

    def note(self, text: str, warning: bool = False) -> None:
        pass


def proven(lab: ReplayLab, spec: StudentSpec, result: SchemeResult, budget: Budget) -> Proof:
    """New sessions of the very file, taken when they are first asked for; without files the recorded latency as if it were
    that of every session."""
    if lab.files is None:
        value = comparable_ms(result, Goal(budget=budget))
        return Proof(
            artifact_sha256=result.artifact.sha256,
            target="host",
            percentile=budget.percentile,
            share=False,
            limit=budget.latency_ms,
            claimed=0.8,
            confidence=0.95,
            alpha=0.05,
            values=(value, value),
            over=2 * (value > budget.latency_ms),
            over_allowed=0,
            bound=value,
            session_s=1.0,
            period_s=0.0,
            began_at="",
            met=value <= budget.latency_ms,
        )
    bench, artifact = lab.files.bench, lab.files.of(lab.students[spec].candidate, result)
    return prove(bench, artifact, Source(spec.label, "recorded", bench.contract_of(spec), never), budget)


def never() -> nn.Module:
    raise AssertionError("a recorded student is not loaded")


def read_students(
    document: Row, config: BuildConfig, target: Target, bench: Workbench | None
) -> dict[StudentSpec, Student]:
    """The rows of brute force that were trained and measured, by student; with the anchor's latency as it is on
    `bench`."""
    side = 28
    space = enumerate_space(config.space, 10, side, target)
    by_spec = {candidate.spec: candidate for candidate in space.candidates}
    found = {}
    for row in document["rows"]:
        spec = StudentSpec.model_validate(row["spec"] | {"channel_multiple": target.channel_multiple})
        if row.get("files"):
            found[spec] = Student(
                by_spec[spec],
                tuple(rung["quality_validation"] for rung in row["rungs"]),
                tuple(rung["seconds"] for rung in row["rungs"]),
                tuple(on_scale(SchemeResult.model_validate(file), bench) for file in row["files"]),
            )
    return found


def on_scale(result: SchemeResult, bench: Workbench | None) -> SchemeResult:
    """The file with its ratio to the anchor in milliseconds of today."""
    if bench is None or bench.meter.scale is None:
        return result
    assert isinstance(result.latency, MeasuredLatency) and result.latency.relative is not None
    relative = result.latency.relative.model_copy(update={"anchor_ms": bench.meter.scale.anchor_ms})
    return result.model_copy(update={"latency": result.latency.model_copy(update={"relative": relative})})
