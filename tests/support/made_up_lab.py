"""A lab whose students, files and measurements are made up by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from factories import make_artifact, make_proof

from edgedistill.base.errors import TrialFailure
from edgedistill.base.intervals import pack
from edgedistill.devices.proof import ProofPlan
from edgedistill.documents.artifacts import CrossValidation, Parity, SchemeResult, TrainedStudent, Verified
from edgedistill.documents.measurements import MeasuredLatency, Proof
from edgedistill.documents.specs import Budget, Precision, ProofLevel, QuantScheme, StudentSpec
from edgedistill.networks.space import Candidate
from edgedistill.networks.structure import OperationKind, Structure, Totals
from edgedistill.selection.lab import Figures, Training


def made_candidate(family: str, width: float, multiply_adds: int, resolution: int = 16) -> Candidate:
    """A candidate of one convolution with so many multiply-adds."""
    spec = StudentSpec(family=family, width=width, depth=1.0, resolution=resolution)
    total = Totals(
        kind=OperationKind.CONV,
        count=1,
        multiply_adds=multiply_adds,
        blocked_multiply_adds=multiply_adds,
        window_pixels=0,
        read_bytes=multiply_adds,
        written_bytes=multiply_adds,
        weights_bytes=multiply_adds // 10,
        sublinear_work=multiply_adds**0.75,
    )
    structure = Structure(
        parameters=multiply_adds // 40 + 1, multiply_adds=multiply_adds, activation_bytes=10, totals=(total,)
    )
    return Candidate(spec=spec, structure=structure)


PLAN = ProofPlan.at(ProofLevel.QUICK)


def made_file(
    precision: str,
    quality: float,
    p95_ms: float,
    dropped: str = "",
    *,
    bytes: int = 1000,
    memory: int | None = None,
    right: str = "",
    images: int = 10,
) -> SchemeResult:
    """A measured file, its hash made of its figures. Which images it got `right` is not kept unless given."""
    quant = QuantScheme(precision=Precision(precision))
    artifact = make_artifact(Precision(precision), sha256=f"{precision} {quality} {p95_ms}")
    parity = Parity(max_abs_error=0.0, top1_agreement=1.0, images=images)
    return SchemeResult(
        scheme=quant,
        artifact=artifact.model_copy(update={"bytes": bytes}),
        verification=Verified(parity=parity, quality_validation=quality, right=right),
        latency=MeasuredLatency(p50_ms=p95_ms / 2, p95_ms=p95_ms, p99_ms=p95_ms, samples=100, device="a CPU"),
        peak_memory_bytes=memory,
        dropped=dropped,
    )


def answering_file(precision: str, images: int, wrong: Sequence[int], p95_ms: float) -> SchemeResult:
    """A measured file that answers these images wrong and all others right."""
    missed = set(wrong)
    right = [image not in missed for image in range(images)]
    return made_file(precision, sum(right) / images, p95_ms, right=pack(right), images=images)


def made_student(spec: StudentSpec, quality: float) -> TrainedStudent:
    return TrainedStudent(
        spec=spec, weights=Path("w"), epochs=4, total_epochs=4, quality_validation=quality, train_seconds=1.0
    )


@dataclass(eq=False)
class MadeUpLab:
    """Accuracy by spec and rung, files by spec, accuracy in cross-validation of some; `sessions_ms` are what the sessions of
    a proof find, by hash, over and over (else the file's own latency). `asked` lists what was trained, `proven` what was to
    be proven, in order."""

    quality: Callable[[StudentSpec, int], float] = lambda spec, rung: 0.5
    files: Callable[[StudentSpec], Sequence[SchemeResult]] = lambda spec: ()
    sessions_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    crossed: Mapping[StudentSpec, float] = field(default_factory=dict)
    measurable: bool = True
    device: str = "a CPU"
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    asked: list[tuple[StudentSpec, int]] = field(default_factory=list)
    realised: list[StudentSpec] = field(default_factory=list)
    proven: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def probe(self, candidate: Candidate) -> tuple[Figures, ...]:
        files = self.files(candidate.spec)
        return tuple(Figures(f.scheme.precision, f.latency) for f in files if isinstance(f.latency, MeasuredLatency))

    def train(self, wanted: Sequence[Training]) -> list[TrainedStudent | TrialFailure]:
        self.asked += [(one.spec, one.rung) for one in wanted]
        return [made_student(one.spec, self.quality(one.spec, one.rung)) for one in wanted]

    def realise(self, trained: TrainedStudent, *, last: bool) -> tuple[SchemeResult, ...]:
        self.realised.append(trained.spec)
        return tuple(self.files(trained.spec))

    def cross_validate(self, trained: TrainedStudent) -> CrossValidation | None:
        if (quality := self.crossed.get(trained.spec)) is None:
            return None
        right = [image < round(300 * quality) for image in range(300)]
        label = trained.spec.label
        return CrossValidation(student=label, folds=5, quality=quality, images=300, right=pack(right))

    def prove(self, trained: TrainedStudent, result: SchemeResult, budget: Budget) -> Proof:
        sha256 = result.artifact.sha256
        self.proven.append(sha256)
        assert isinstance(result.latency, MeasuredLatency)
        found = cycle(self.sessions_ms.get(sha256, (result.latency.at(budget.percentile),)))
        values = [next(found)]
        while not (judgement := PLAN.judge(values, budget.latency_ms)).ended:
            values.append(next(found))
        return make_proof(
            values,
            artifact_sha256=sha256,
            target=self.device,
            percentile=budget.percentile,
            limit=budget.latency_ms,
            over=judgement.over,
            over_allowed=judgement.look.over_allowed,
            bound=judgement.bound,
            met=judgement.met,
        )

    def note(self, text: str, warning: bool = False) -> None:
        self.notes.append(text)
