"""The quantisation ladder: which rung a network needs on one target, decided from what is measured.

    int8 with each calibration -> channels evened out -> biases corrected -> layers kept in float, most damaged first
    -> trained under rounding

The first rung whose file loses no more accuracy than allowed wins, if it is smaller or faster by the margin; a ladder
whose int8 file is neither ends there, for every later rung is as large or larger. What makes and measures files is
handed in, so that every decision here is a function of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Generic, TypeVar

from edgedistill.base.errors import MissingDependencyError, TrialFailure, UnsupportedError
from edgedistill.base.intervals import Answers
from edgedistill.documents.artifacts import LadderRung
from edgedistill.documents.specs import Calibration, Precision, QuantScheme

A = TypeVar("A")


@dataclass(frozen=True)
class Margins:
    """A rung may lose `max_loss` of quality (0.005 is half a point), and has to be `speed` faster or `size` smaller than
    the wider file, as shares."""

    max_loss: float
    speed: float = 0.05
    size: float = 0.10


@dataclass(frozen=True)
class Measured:
    """A file's answers to the validation split (None: it cannot be run here) and its bytes."""

    answers: Answers | None
    bytes: int


@dataclass(frozen=True, eq=False)
class Tools(Generic[A]):
    """How a file is made and measured. `make` raises UnsupportedError, TrialFailure or MissingDependencyError;
    `relative_p50`, as a ratio to the fp32 file's, is asked for files inside the loss, and for those that are not
    smaller; `ranked` gives the layers that a scheme damages, most damaged first."""

    make: Callable[[QuantScheme], A]
    answers: Callable[[A], Answers | None]
    bytes: Callable[[A], int]
    relative_p50: Callable[[A], float | None]
    ranked: Callable[[QuantScheme], Sequence[str]]


def climb(
    tools: Tools[A], baseline: Measured, margins: Margins, *, images: int, qat_epochs: int = 0, layers_kept: bool = True
) -> tuple[LadderRung, ...]:
    """Climb until a rung is accepted: every one that was tried, in order. `baseline` is the fp32 file; `images` calibrate;
    `qat_epochs` 0 leaves training under rounding out, `layers_kept` false the mixed rungs."""
    ladder = _Ladder(tools, baseline, margins)
    plain = QuantScheme(precision=Precision.INT8, calibration_images=images)
    for method in Calibration:
        if ladder.tried(plain.model_copy(update={"calibration": method})) or not ladder.worthwhile:
            return ladder.climbed()
    for change in ("equalized", "bias_corrected"):
        if ladder.tried(ladder.best(plain).model_copy(update={change: True})):
            return ladder.climbed()
    if layers_kept and ladder.kept_tried(ladder.best(plain)):
        return ladder.climbed()
    if qat_epochs:
        calibration = ladder.best(plain).calibration
        ladder.tried(plain.model_copy(update={"calibration": calibration, "qat_epochs": qat_epochs}))
    return ladder.climbed()


def judge(
    tools: Tools[A], scheme: QuantScheme, artifact: A, baseline: Measured, margins: Margins
) -> tuple[LadderRung, bool]:
    """A file's rung, and whether it is smaller or faster than fp32 by the margin, whatever its quality. Raises
    TrialFailure where it cannot be run."""
    answers, size = tools.answers(artifact), tools.bytes(artifact)
    before = baseline.answers
    relative = cache(lambda: tools.relative_p50(artifact))
    compared = Comparison(margins, baseline, Measured(answers, size), relative, "fp32")
    relative_p50 = relative() if not compared.lost or compared.smaller < margins.size else None
    reasons = [reason for reason in (compared.lost, compared.too_little_gained) if reason]
    rung = LadderRung(
        scheme=scheme,
        quality=None if answers is None else answers.quality,
        loss=before.quality - answers.quality if answers and before else None,
        bytes=size,
        relative_p50=relative_p50,
        accepted=not reasons,
        reason="; ".join(reasons),
    )
    return rung, not compared.too_little_gained


@dataclass(frozen=True, eq=False)
class Comparison:
    """A file beside the `wider` one, called `name`. `relative_p50` is asked where size does not tell whether it pays."""

    margins: Margins
    wider: Measured
    file: Measured
    relative_p50: Callable[[], float | None]
    name: str

    @property
    def lost(self) -> str:
        """That it loses more quality than allowed; empty if it does not."""
        before, after = self.wider.answers, self.file.answers
        return after.loses(before, self.margins.max_loss) if after and before else ""

    @property
    def smaller(self) -> float:
        """By which share it is smaller."""
        return 1 - self.file.bytes / self.wider.bytes

    @cached_property
    def too_little_gained(self) -> str:
        """That it is neither smaller nor faster by the margin; empty if it is."""
        margins, smaller = self.margins, self.smaller
        if smaller >= margins.size:
            return ""
        size = f"{abs(smaller):.0%} {'smaller' if smaller >= 0 else 'larger'} (margin {margins.size:.0%})"
        if (relative_p50 := self.relative_p50()) is None:
            return f"gains too little over {self.name}: {size}, its latency is not known here"
        faster = 1 - relative_p50
        if faster >= margins.speed:
            return ""
        speed = f"{abs(faster):.0%} {'faster' if faster >= 0 else 'slower'} at p50 (margin {margins.speed:.0%})"
        return f"gains too little over {self.name}: {speed}, {size}"


@dataclass(eq=False)
class _Ladder(Generic[A]):
    tools: Tools[A]
    baseline: Measured
    margins: Margins
    rungs: list[LadderRung] = field(default_factory=list)
    worthwhile: bool = True
    """False once a file was neither smaller nor faster, whatever its quality."""

    def tried(self, scheme: QuantScheme) -> bool:
        """Whether the file of this scheme is accepted."""
        try:
            rung, self.worthwhile = judge(self.tools, scheme, self.tools.make(scheme), self.baseline, self.margins)
        except (UnsupportedError, TrialFailure, MissingDependencyError) as error:
            self.rungs.append(LadderRung(scheme=scheme, accepted=False, reason=error.message))
            return False
        self.rungs.append(rung)
        return rung.accepted

    def best(self, otherwise: QuantScheme) -> QuantScheme:
        """The int8 scheme that lost least so far; the earlier of equals."""
        seen = [rung for rung in self.rungs if rung.quality is not None]
        return max(seen, key=lambda rung: rung.quality or 0.0).scheme if seen else otherwise

    def kept_tried(self, base: QuantScheme) -> bool:
        """Keep 1, 2, 4, 8, ... layers in float until a file is accepted or gains too little, then find the fewest
        that will do between the last count that failed and the first that did not."""
        try:
            ranked = tuple(self.tools.ranked(base))
        except (UnsupportedError, TrialFailure) as error:
            self.rungs.append(LadderRung(scheme=_keeping(base, ()), accepted=False, reason=error.message))
            return False
        failed, count = 0, 1
        while count < len(ranked):
            if self.tried(_keeping(base, ranked[:count])):
                self._fewest(base, ranked, failed, count)
                return True
            if not self.worthwhile:
                return False
            failed, count = count, 2 * count
        return False

    def _fewest(self, base: QuantScheme, ranked: Sequence[str], failed: int, accepted: int) -> None:
        while accepted - failed > 1:
            middle = (failed + accepted) // 2
            if self.tried(_keeping(base, ranked[:middle])):
                accepted = middle
            else:
                failed = middle

    def climbed(self) -> tuple[LadderRung, ...]:
        """The last file that was accepted wins: it keeps fewer layers in float than those before."""
        last = max((i for i, rung in enumerate(self.rungs) if rung.accepted), default=-1)
        return tuple(
            rung.model_copy(update={"accepted": False, "reason": "fewer layers in float will do"})
            if rung.accepted and i != last
            else rung
            for i, rung in enumerate(self.rungs)
        )


def _keeping(base: QuantScheme, kept: Sequence[str]) -> QuantScheme:
    return base.model_copy(update={"precision": Precision.MIXED, "kept": tuple(kept)})
