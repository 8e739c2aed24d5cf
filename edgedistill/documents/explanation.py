"""What `explain` answers: why a build ended as it did.

A lack has figures of its own kind and a `sentence` made of them, which the command line and the report show.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgedistill.base.units import format_bytes, format_ms, format_percent
from edgedistill.documents.artifacts import Fraction
from edgedistill.documents.measurements import Latency, OpTiming, PredictedLatency, Proof
from edgedistill.documents.results import Constraint, StudentSummary
from edgedistill.documents.specs import Budget, Frozen, Objective, Percentile, Precision, StudentSpec


class BesideTeacher(Frozen):
    """A winner beside its teacher. `quality` is on the test split, as is `quality_difference`, which is above 0 where the
    student is the better; `times_faster` is from runs in turn: with one another, at the budget's percentile, where that
    is the proof, else each with the anchor, by medians. Null where one of the two is not known."""

    name: str
    quality: Fraction
    quality_interval: tuple[Fraction, Fraction]
    quality_validation: Fraction
    quality_difference: float | None
    latency: Latency
    times_faster: float | None
    bytes: int | None
    bytes_share: float | None


class WinnerExplained(Frozen):
    """The student that won, of `tried` trials, before `rivals` others that kept all limits to the end, of which `equals` are
    no less accurate than the most accurate student by more than `quality_margin`, with 95% confidence. `quality` is its
    file's on the test split with its 95% interval, `quality_validation` on the validation split, which chose;
    `quality_model` the torch model's there. `proof` is null without one."""

    trial: int | None
    student: StudentSummary
    label: str
    precision: Precision | None
    path: str | None
    bytes: int | None
    quality: Fraction | None
    quality_interval: tuple[Fraction, Fraction] | None
    quality_validation: Fraction | None
    quality_model: Fraction | None
    latency: Latency
    proof: Proof | None
    tried: int
    rivals: int
    equals: int
    quality_margin: float
    teacher: BesideTeacher


class LatencyOver(Frozen):
    """A file over the budget, or inside it by less than sessions differ. `measured_ms` is its latency as it was,
    `comparable_ms`, what is compared with the budget, the same by way of the anchor. `provable_ms` is what of the budget can
    be proven here."""

    kind: Literal["latency"] = "latency"
    precision: Precision
    budget: Budget
    measured_ms: float
    comparable_ms: float
    provable_ms: float

    @property
    def sentence(self) -> str:
        budget, shown = self.budget, self.budget.in_its_unit(self.comparable_ms)
        compared = "" if shown == format_ms(self.measured_ms) else f" ({shown} by way of the anchor)"
        measured = f"{budget.percentile} {format_ms(self.measured_ms)} in {self.precision}{compared}"
        over = self.comparable_ms / budget.latency_ms - 1
        if over <= 0:
            provable = f"only {budget.in_its_unit(self.provable_ms)} can be proven where sessions differ as here"
            return f"{measured}: inside the budget of {budget.claim}, but {provable}"
        return f"{measured}: {format_percent(over, 0 if over > 1 else 1)} over the budget of {budget.claim}"


class BytesOver(Frozen):
    """A file that is too large, or whose process takes too much memory at its peak; `bytes` is null where that was not
    measured."""

    kind: Literal["size", "memory"]
    precision: Precision
    bytes: int | None
    limit_bytes: int

    @property
    def sentence(self) -> str:
        what = "of peak memory " if self.kind == "memory" else ""
        limit = format_bytes(self.limit_bytes)
        if self.bytes is None:
            return f"{what.removeprefix('of ')}in {self.precision} not measured, at most {limit} allowed"
        over = format_bytes(self.bytes - self.limit_bytes)
        return f"{format_bytes(self.bytes)} {what}in {self.precision}: {over} over the {limit} allowed"


class TooInaccurate(Frozen):
    """A file of a student trained to the end that does not reach the least quality allowed. `lower_bound` is what its true
    quality is above with 95% confidence. Both are null where it could not be run."""

    kind: Literal["quality"] = "quality"
    precision: Precision
    quality_validation: Fraction | None
    lower_bound: Fraction | None
    limit: Fraction

    @property
    def sentence(self) -> str:
        least = f"the {format_percent(self.limit, 2)} wanted"
        if self.quality_validation is None or self.lower_bound is None:
            return f"quality in {self.precision} unknown, at least {format_percent(self.limit, 2)} wanted"
        reached = f"{format_percent(self.quality_validation, 2)} in {self.precision}"
        if self.quality_validation < self.limit:
            return f"{reached}: {_points(self.limit - self.quality_validation)} below {least}"
        return f"{reached}: with 95% confidence only above {format_percent(self.lower_bound, 2)}, not {least}"


class LessAccurate(Frozen):
    """Quality below the winner's: of the best file on the validation split, of the torch model where no file was run, or of
    the student in cross-validation over so many `images`, null where it was not cross-validated."""

    kind: Literal["less_accurate"] = "less_accurate"
    of_file: bool
    quality_validation: Fraction
    winner: Fraction
    images: int | None = None

    @property
    def sentence(self) -> str:
        whose = "" if self.of_file else " (torch model)"
        if self.images is not None:
            whose = f" of {self.images:,} images in cross-validation"
        behind = _points(self.winner - self.quality_validation)
        return f"{format_percent(self.quality_validation, 2)}{whose}, {behind} behind the winner"


class Slower(Frozen):
    """Latency above the winner's, both at `percentile` by way of the anchor. `within` is the quality margin where it is the
    more accurate one, null where it is not."""

    kind: Literal["slower"] = "slower"
    percentile: Percentile
    latency_ms: float
    winner_ms: float
    within: Fraction | None = None

    @property
    def sentence(self) -> str:
        slower = format_percent(self.latency_ms / self.winner_ms - 1)
        as_good = "" if self.within is None else f", which is as accurate within {_points(self.within)}"
        return f"{slower} slower than the winner{as_good}"


class Rival(Frozen):
    """A student that was at least as accurate at a rung, and went on. The quality is its torch model's there."""

    trial: int
    label: str
    quality_validation: Fraction


class Beaten(Frozen):
    """Pruned at a rung that others left with more: `by` are those, the most accurate first."""

    kind: Literal["beaten"] = "beaten"
    rung: int
    epochs: int
    quality_model: Fraction
    by: Annotated[tuple[Rival, ...], Field(min_length=1)]

    @property
    def sentence(self) -> str:
        first = self.by[0]
        others = f" and {len(self.by) - 1} more" if len(self.by) > 1 else ""
        return (
            f"pruned at rung {self.rung}: {format_percent(self.quality_model)} after {epochs_text(self.epochs)}, where "
            f"trial {first.trial} ({format_percent(first.quality_validation)}){others} went on"
        )


class Stated(Frozen):
    """What has no figure beside the winner's: it failed, no precision of it was kept, nothing was measured, its file is not
    proven. `reason` is the search's own word."""

    kind: Literal["stated"] = "stated"
    about: Literal["failed", "nothing_kept", "unmeasured", "unproven", "other"]
    reason: str

    @property
    def sentence(self) -> str:
        return self.reason


Lack = Annotated[
    LatencyOver | BytesOver | TooInaccurate | LessAccurate | Slower | Beaten | Stated, Field(discriminator="kind")
]


class OtherStudent(Frozen):
    """A trial that did not win, and what it `lacks`. `precision` and `quality_validation` are those of its best file, null
    without one; `quality_model` the torch model's after `epochs`. `latency` is measured, or else what was `predicted`."""

    trial: int
    label: str
    spec: StudentSpec
    state: Literal["failed", "pruned", "over_budget", "complete"]
    epochs: int
    precision: Precision | None
    quality_validation: Fraction | None
    quality_model: Fraction | None
    latency: Latency
    predicted: Latency
    lacks: tuple[Lack, ...]
    reason: str

    @property
    def lacked(self) -> str:
        """What it lacked, in a sentence."""
        return "; ".join(lack.sentence for lack in self.lacks)


class OperatorKind(Frozen):
    """All operators of one type: how many, their summed median time, their share of all."""

    name: str
    count: int
    total_us: float
    share: Fraction


class DearOperator(OpTiming):
    """One operator, with its share of all."""

    share: Fraction


class OperatorTimes(Frozen):
    """Where the time of the file at `path` goes, measured on `device`: all kinds and the dearest single operators. The sum
    is of a profiling session and not the latency."""

    kind: Literal["measured"] = "measured"
    path: str
    device: str
    operators: int
    total_us: float
    kinds: tuple[OperatorKind, ...]
    dearest: tuple[DearOperator, ...]


class OperatorsUnknown(Frozen):
    """No operator was timed, and why."""

    kind: Literal["unknown"] = "unknown"
    reason: str


class BudgetStep(Frozen):
    """A measured file: a budget from `latency_ms` on has at least its validation quality, on `images` images, once it is
    proven. `proof` says whether that was tried, for a budget of `proof_ms`, or, where `proof_share` is not null, for
    that share of the teacher's latency; one that is not met counts in `latency_ms` with what it saw. With
    `trained_out` false the student was given up after `epochs`, and would be more accurate at the end."""

    trial: int
    label: str
    precision: Precision
    latency_ms: float
    quality_validation: Fraction
    images: int
    epochs: int
    trained_out: bool
    proof: Literal["none", "met", "not_met"]
    proof_ms: float | None
    proof_share: float | None = None

    def inside(self, limit_ms: float) -> bool:
        """Whether it may be offered for a budget of `limit_ms`: never for one that its proof missed."""
        missed = self.proof == "not_met" and self.proof_ms is not None and limit_ms <= self.proof_ms
        return self.latency_ms <= limit_ms and not missed


class Interpolation(Frozen):
    """What a student `between` two measured ones might have, on a straight line of quality over the logarithm of latency.
    It is not measured."""

    kind: Literal["interpolated"] = "interpolated"
    latency_ms: float
    quality_validation: Fraction
    between: tuple[BudgetStep, BudgetStep]


class ExpectedStudent(Frozen):
    """A student that was not measured, as models expect it. Where it was not trained, `trial` is null and the quality has a
    95% interval; else the quality is its torch model's, and only the latency is predicted."""

    trial: int | None
    label: str
    spec: StudentSpec
    latency: PredictedLatency
    quality_validation: Fraction
    quality_validation_low: Fraction | None
    quality_validation_high: Fraction | None


class OtherBudgets(Frozen):
    """What other budgets than the build's `budget` would give at its percentile, all other limits kept: steps that were
    measured, lines between them, and students that models expect. `would_do_ms` is the least one of which a proof should
    succeed, where the build's was not met."""

    budget: Budget
    measured: tuple[BudgetStep, ...]
    interpolated: tuple[Interpolation, ...]
    expected: tuple[ExpectedStudent, ...]
    would_do_ms: float | None


class BudgetAnswer(Frozen):
    """What one budget would give. `measured` is the file that the build's own rule chooses of those measured inside it,
    `interpolated` what one between two measured students might reach there, `expected` the best that models expect beyond
    what is measured. Of those, `kind` is the surest that there is; `unknown` has a reason."""

    kind: Literal["measured", "predicted", "unknown"]
    budget: Budget
    measured: BudgetStep | None
    interpolated: Interpolation | None
    expected: ExpectedStudent | None
    reason: str


class PredictionRecord(Frozen):
    """Latencies predicted before a trial began, of those measured later: how many 90% intervals held the measurement, in all
    and of the calibrated ones, and the median of the relative errors."""

    compared: int
    held: int
    calibrated: int
    calibrated_held: int
    median_error: float


class SearchCost(Frozen):
    """What the search cost. `trials` by how far they came; `rungs` trained and the `epochs` in them; `files_measured` on the
    device. `seconds` are those of the run that finished the build."""

    stopped: str
    trials: int
    failed: int
    pruned: int
    over_budget: int
    complete: int
    rungs: int
    epochs: int
    files_measured: int
    seconds: float


class ExplainResult(Frozen):
    """What `explain` answers: why the student of the build in `path` won, what the others lacked (the best first, `left_out`
    more), where its time goes, what other budgets would give, what the search cost. `asked` is null unless a budget was
    asked about. Validation qualities are of `validation_images` images."""

    schema_version: Literal[4] = 4
    edgedistill_version: str
    path: str
    build_key: str
    status: Literal["met", "not_met", "unmeasured"]
    verdict: str
    target: str
    objective: Objective
    constraints: tuple[Constraint, ...]
    validation_images: int
    winner: WinnerExplained | None
    others: tuple[OtherStudent, ...]
    left_out: int
    operators: Annotated[OperatorTimes | OperatorsUnknown, Field(discriminator="kind")]
    budgets: OtherBudgets
    asked: BudgetAnswer | None
    predictions: PredictionRecord | None
    search: SearchCost


def _points(share: float) -> str:
    """A difference of two shares: `0.60 points`."""
    return f"{format_percent(share, 2).removesuffix('%')} points"


def epochs_text(count: int) -> str:
    """`1 epoch`, `8 epochs`."""
    return f"{count} epoch{'s' * (count != 1)}"
