"""Where candidates become trained students, files and measurements, as a search sees it.

A build's lab is `pipeline/lab.py`, with its bench and cache; a benchmark's may replay what was measured before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgedistill.base.errors import TrialFailure
from edgedistill.documents.artifacts import CrossValidation, SchemeResult, TrainedStudent
from edgedistill.documents.measurements import MeasuredLatency, Proof
from edgedistill.documents.specs import Budget, Precision, StudentSpec
from edgedistill.networks.space import Candidate


@dataclass(frozen=True)
class Training:
    """A student to be trained up to the end of rung `rung` (0 is the first), from `previous`, its weights after the
    rung before."""

    spec: StudentSpec
    rung: int
    previous: TrainedStudent | None


@dataclass(frozen=True)
class Figures:
    """What was measured of a file: its latency and, where they are known, size, memory and the share of its operators'
    time in convolutions and matrix products."""

    precision: Precision
    latency: MeasuredLatency
    bytes: int | None = None
    peak_memory_bytes: int | None = None
    multiplying: float | None = None


def figures_of(schemes: Sequence[SchemeResult]) -> list[Figures]:
    """What was measured of a student's files."""
    return [
        Figures(s.scheme.precision, s.latency, s.artifact.bytes, s.peak_memory_bytes, s.multiplying)
        for s in schemes
        if isinstance(s.latency, MeasuredLatency)
    ]


class Lab(Protocol):
    """What a search asks for. Everything but `note` may take long, and gives the same again for the same question."""

    @property
    def measurable(self) -> bool:
        """Whether the device can be measured, as far as is known by now."""

    @property
    def device(self) -> str:
        """The target's name."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that are tried there."""

    def probe(self, candidate: Candidate) -> tuple[Figures, ...]:
        """Files of the candidate with random weights, measured; those that could not be made are left out."""

    def train(self, wanted: Sequence[Training]) -> list[TrainedStudent | TrialFailure]:
        """Each student after its rung, or why there is none, in the order of `wanted`."""

    def realise(self, trained: TrainedStudent, *, last: bool) -> tuple[SchemeResult, ...]:
        """The student's files in every precision worth trying, run and measured. At the `last` rung int8 that loses too
        much may be trained under rounding. Raises TrialFailure where the widest precision cannot be made or run."""

    def cross_validate(self, trained: TrainedStudent) -> CrossValidation | None:
        """The student trained as long without parts of the images, which it then answers; None where that is not asked for.
        Raises TrialFailure where one of the trainings fails."""

    def prove(self, trained: TrainedStudent, result: SchemeResult, budget: Budget) -> Proof:
        """New sessions of the very file until they prove the budget or cannot. Raises TrialFailure where they cannot be
        taken."""

    def note(self, text: str, warning: bool = False) -> None:
        """A line of what goes on."""
