"""What a build and a profile end with: documents that are read without this package.

What the test split says exists here alone (`ShippedArtifact.quality`, `TeacherSummary.quality`, `PredictionsOnTest`).
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgedistill.documents.artifacts import Fraction, Parity, Trial, Verification
from edgedistill.documents.measurements import (
    Fallbacks,
    Latency,
    Moment,
    Percentiles,
    PredictedLatency,
    Proof,
)
from edgedistill.documents.specs import (
    Budget,
    Format,
    Frozen,
    Metric,
    Objective,
    Precision,
    QuantScheme,
    StudentSpec,
)


class ShippedArtifact(Frozen):
    """A file of the package. `scheme` is all that was done for its precision; `path` is relative to the output folder;
    `quality` is on the test split, with its 95% interval; both null where the file cannot run here. `proof` is what
    was tried of this very file, null where none was. `measured_sha256` is the hash of the file that was measured and
    proven: `sha256` is that of the same file with what `[package]` tells in its metadata, and the temperature of its
    probabilities. It is empty in documents older than it."""

    format: Format
    precision: Precision
    scheme: QuantScheme
    path: str
    bytes: int
    sha256: str
    measured_sha256: str = ""
    quality: Fraction | None
    quality_interval: tuple[Fraction, Fraction] | None
    quality_validation: Fraction | None
    parity: Parity | None
    verification: Verification
    latency: Latency
    peak_memory_bytes: int | None
    load_ms: float | None
    record: dict[str, str] = {}
    fallbacks: Fallbacks | None = None
    proof: Proof | None = None

    @property
    def as_measured(self) -> str:
        """The hash of the file that was measured, by which proofs and trials name it."""
        return self.measured_sha256 or self.sha256


class TeacherFile(Frozen):
    """The teacher's fp32 file in the output folder: it is needed to repeat a proof."""

    path: str
    format: Format
    sha256: str


class EnsembleMember(Frozen):
    """A teacher of several, with its share in what students learn and its quality on the validation split."""

    name: str
    weight: Fraction
    quality_validation: Fraction


class TeacherSummary(Frozen):
    """The teacher beside its student: the same data, the same target, its fp32 artifact. `files` lie beside the
    package: the one that gave its quality, and the one that ran in turn with students; none where the build left them
    out. Of a teacher of which there are outputs alone, size and resolution are null. `ensemble` are all teachers of a build
    that has several, this one first, and `ensemble_quality_validation` is what they have together."""

    name: str
    quality: Fraction
    quality_interval: tuple[Fraction, Fraction]
    quality_validation: Fraction
    parameters: int | None
    bytes: int | None
    resolution: int | None
    latency: Latency
    files: tuple[TeacherFile, ...] = ()
    ensemble: tuple[EnsembleMember, ...] = ()
    ensemble_quality_validation: Fraction | None = None


class StudentSummary(StudentSpec):
    """The student's choices, with what they come to: `parameters` and `multiply_adds` of the deployed network at batch
    1."""

    parameters: int
    multiply_adds: int

    @property
    def spec(self) -> StudentSpec:
        """The choices alone."""
        return StudentSpec.model_validate(self.model_dump(include=set(StudentSpec.model_fields)))


ClassIndex = Annotated[int, Field(ge=0)]
"""A class, by its place in a list of classes."""

MOST_MISTAKES = 24
"""So many mistakes are told one by one."""


class Confused(Frozen):
    """How many test images of the class `label` a file takes for the class `predicted`. They are right answers where the two
    are the same class."""

    label: ClassIndex
    predicted: ClassIndex
    count: Annotated[int, Field(ge=1)]


class Mistake(Frozen):
    """A test image that a file takes for another class than its label. `probability` is what the file gives the class
    `predicted`, `probability_of_label` what it gives the label. `image` is the path from the data
    folder, or the place in the data set, counted from 0. `thumbnail` is a small picture of what the student sees: a WebP
    file, relative to the output folder."""

    label: ClassIndex
    predicted: ClassIndex
    probability: Fraction
    probability_of_label: Fraction
    image: str
    thumbnail: str


class ReliabilityBin(Frozen):
    """The test images of which the probability of the answer lies in one of 15 equal parts of 0 to 1: how many they are, the
    mean of that probability, and the share of right answers."""

    images: Annotated[int, Field(ge=1)]
    confidence: Fraction
    accuracy: Fraction


class Confidence(Frozen):
    """How far a file's probabilities, softmax(logits / `temperature`), can be taken at their word, on the test split.
    `calibration_error` is the expected calibration error over `bins` (Guo et al. 2017, https://arxiv.org/abs/1706.04599,
    equation 3), `raw_calibration_error` that of softmax(logits). With `none_below` an app answers "none of these" where the
    largest probability is below it: `right_kept` is the share of right answers, and `wrong_caught` that of wrong ones, to
    which that happens. The three are null where no such answer was asked for, `wrong_caught` also where no answer is
    wrong, and `right_kept` where none is right."""

    temperature: Annotated[float, Field(gt=0)]
    calibration_error: Fraction
    raw_calibration_error: Fraction
    bins: tuple[ReliabilityBin, ...]
    none_below: Fraction | None = None
    right_kept: Fraction | None = None
    wrong_caught: Fraction | None = None


class PredictionsOnTest(Frozen):
    """What the shipped file with that hash answers to the `images` of the test split. `classes` are the classes' names; all
    else tells a class by its place there. `confusion` has no entry for a label and a class that it is never taken for.
    `mistakes` are the most confident ones, in that order. `confidence` is null in documents older than it."""

    artifact_sha256: str
    images: Annotated[int, Field(ge=1)]
    classes: tuple[str, ...]
    confusion: tuple[Confused, ...]
    mistakes: Annotated[tuple[Mistake, ...], Field(max_length=MOST_MISTAKES)]
    confidence: Confidence | None = None

    @property
    def images_of(self) -> Counter[int]:
        """How many test images each label has."""
        totals: Counter[int] = Counter()
        for entry in self.confusion:
            totals[entry.label] += entry.count
        return totals

    @model_validator(mode="after")
    def _consistent(self) -> PredictionsOnTest:
        if sum(entry.count for entry in self.confusion) != self.images:
            raise ValueError("the counts of the confusion matrix do not add up to the images")
        answers: tuple[Confused | Mistake, ...] = (*self.confusion, *self.mistakes)
        if any(max(answer.label, answer.predicted) >= len(self.classes) for answer in answers):
            raise ValueError("an answer is of a class that is not in the list of classes")
        return self


class Dropped(Frozen):
    """A format or precision that was tried for the winner and is not in the package, and why."""

    format: Format
    precision: Precision
    reason: str


class FrontierPoint(Frozen):
    """A measured student that no other measured one beats in both quality (validation) and latency."""

    trial: int
    precision: Precision
    latency_ms: float
    quality_validation: Fraction


class PredictedPoint(Frozen):
    """A student that was not trained, as the models see it after the search: it would be on the frontier if both were
    right. The quality interval holds it in 95% of cases, the latency's in 90%."""

    spec: StudentSpec
    latency: PredictedLatency
    quality_validation: Fraction
    quality_validation_low: Fraction
    quality_validation_high: Fraction


class LatencyLimit(Frozen):
    """The budget on `target`, and the winner's proof of it. `aim_ms` is from where on a proof would hardly have
    succeeded, since sessions differ; null where that is not known, as `kept` is without a proof."""

    kind: Literal["latency"] = "latency"
    target: str
    budget: Budget
    aim_ms: float | None = None
    proof: Proof | None
    kept: bool | None


class SizeLimit(Frozen):
    """The most bytes that the winner's file may have, and what it has."""

    kind: Literal["size"] = "size"
    limit_bytes: int
    bytes: int | None
    kept: bool | None


class MemoryLimit(Frozen):
    """The largest peak memory that a process running the winner's file may have on `target`, and what was measured."""

    kind: Literal["memory"] = "memory"
    target: str
    limit_bytes: int
    bytes: int | None
    kept: bool | None


class QualityLimit(Frozen):
    """The least validation quality of the winner's file, what it has, and what its true quality is above with 95%
    confidence. Where `resolved` is false the split is too small to tell, and the quality seen decides."""

    kind: Literal["quality"] = "quality"
    limit: Fraction
    quality_validation: Fraction | None
    lower_bound: Fraction | None
    resolved: bool
    kept: bool | None


Constraint = Annotated[LatencyLimit | SizeLimit | MemoryLimit | QualityLimit, Field(discriminator="kind")]


class SplitSizes(Frozen):
    """The data set: where it comes from, the hash of its content, its classes (0 where no image has a label), and the images
    of each split; `unlabelled` of those in `train` have no label. `seed` is null where the splits came with the data."""

    source: str
    fingerprint: str
    classes: int
    train: int
    unlabelled: int = 0
    validation: int
    test: int
    seed: int | None

    @property
    def training(self) -> str:
        """`1,038 training`, and how many of them have no label where others have one."""
        some = self.unlabelled and self.classes
        return f"{self.train:,} training" + (f" ({self.unlabelled:,} without a label)" if some else "")

    @property
    def labels(self) -> str:
        """`10 classes`."""
        return f"{self.classes:,} classes" if self.classes else "no labels"


class ScaleSummary(Frozen):
    """What ratios to the anchor meant in this build: the anchor's hash and own latency in ms, by how much sessions
    differed from one to the next (standard deviation of the log), and when that was measured (UTC)."""

    anchor_sha256: str
    anchor_ms: Percentiles
    spread: float
    at: str


class SustainedLoad(Frozen):
    """The winner run without a pause for `seconds`: the budget's percentile over the first and over the last third of
    the time, in ms, and the machine before and after."""

    seconds: float
    first_third_ms: float
    last_third_ms: float
    start: Moment | None
    end: Moment | None


class PilotRun(Frozen):
    """A student trained by a recipe for few epochs, so that recipes can be compared. `images` is on how many its quality was
    seen in cross-validation, null where that was the validation split, and `part_qualities` its quality on each part of
    them, empty without cross-validation and in documents older than it."""

    recipe: str
    student: str
    epochs: Annotated[int, Field(ge=1)]
    quality_validation: Fraction
    images: int | None = None
    part_qualities: tuple[Fraction, ...] = ()

    @property
    def judged(self) -> str:
        """What its quality was seen on, for sentences."""
        return "on the validation split" if self.images is None else f"in cross-validation over {self.images:,} images"


class AssistantChoice(Frozen):
    """Whether students learnt from an assistant, a student of a size between the teacher's and theirs. `tried` are those of
    which `assistant` was the best for its size; `quality_validation` is what it had in the end. `direct` and `through` are
    one student that learnt from the teacher and from the assistant."""

    assistant: str
    quality_validation: Fraction
    tried: tuple[PilotRun, ...]
    direct: PilotRun
    through: PilotRun
    taken: bool

    @property
    def sentence(self) -> str:
        """For notes and the report."""
        taught = f"the assistant {self.assistant} ({self.quality_validation:.1%} of the validation split)"
        compared = (
            f"{self.direct.student}, {self.direct.epochs} epochs by each, came {self.direct.judged} to "
            f"{self.through.quality_validation:.1%} from it and {self.direct.quality_validation:.1%} from the teacher"
        )
        return f"students learn from {taught if self.taken else 'the teacher, not from ' + taught}: {compared}"


class RecipeChoice(Frozen):
    """By which recipe students learnt: `asked` is what the build file says, `default`, a name or `composed`. For `default`
    the `reasons` are sentences, and `pilot` are the runs that decided, empty where none was needed. `assistant` is null
    where none was tried."""

    asked: str
    recipe: str
    reasons: tuple[str, ...] = ()
    pilot: tuple[PilotRun, ...] = ()
    assistant: AssistantChoice | None = None


class Found(Frozen):
    """What a search found.

    `status` is `met` only where the winner's exact file was proven on the device. `constraints` are what was asked for, the
    latency budget first, each with what the winner came to. `rungs` are the epochs at which candidates are compared,
    whether or not any came that far. `stopped` is why the search went no further, `predicted` are students that were not
    trained and of which the models expect the most. `fastest_ms` is the least latency measured of any file that was kept,
    at the budget's percentile; `budget_that_would_do_ms`, where the status is `not_met`, the least larger budget of which a
    proof should succeed with a file that was measured, all other limits kept; null where there is none, and where one
    student is to serve several targets. `metric` is what every quality is (`accuracy`: the share of right answers),
    `quality_margin` by how much the winner's may be below that of the best student (see Goal). `recipe` is null in
    documents older than it. `not_fetched` are the models whose pretrained weights could not be fetched, so that the
    search did without them: the same build tries again. `scale` is null where nothing was measured. `attempts` are the
    proofs that are not met, `earlier` those of builds before this one that took their own measurements, met or not, the
    oldest first. `occasion` is on which one the measurements were taken: that of the last `--remeasure`, empty before
    the first. `build_file` is the build file as seen from the output folder; `overrides` are the options that replaced
    what it says, each with its values, and of several targets this one. Both are empty where that is not known."""

    schema_version: Literal[4] = 4
    edgedistill_version: str
    build_key: str
    build_file: str = ""
    overrides: dict[str, tuple[str, ...]] = {}
    occasion: str = ""
    status: Literal["met", "not_met", "unmeasured"]
    verdict: str
    target: str
    objective: Objective = Objective.QUALITY
    metric: Metric
    quality_margin: Annotated[float, Field(ge=0, lt=1)]
    constraints: Annotated[tuple[Constraint, ...], Field(min_length=1)]
    student: StudentSummary | None
    proof: Proof | None
    attempts: tuple[Proof, ...] = ()
    earlier: tuple[Proof, ...] = ()
    scale: ScaleSummary | None = None
    recipe: RecipeChoice | None = None
    not_fetched: tuple[str, ...] = ()
    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    trials: tuple[Trial, ...]
    frontier: tuple[FrontierPoint, ...]
    predicted: tuple[PredictedPoint, ...] = ()
    stopped: str = ""
    fastest_ms: float | None
    budget_that_would_do_ms: float | None
    notes: tuple[str, ...]
    environment: dict[str, str]
    seconds: float

    @property
    def budget(self) -> Budget:
        """The latency budget among the constraints."""
        return next(limit.budget for limit in self.constraints if isinstance(limit, LatencyLimit))


class SearchResult(Found):
    """`search.json`: what `search` found, before anything is shipped. No file of it was run on the test split."""


class BuildResult(Found):
    """`build.json`: everything that a build found and shipped, readable without this package. `predictions_on_test` are
    those of the winner's file; null where that cannot run here, and missing in documents of earlier versions."""

    data: SplitSizes
    teacher: TeacherSummary
    artifacts: tuple[ShippedArtifact, ...]
    dropped: tuple[Dropped, ...]
    sustained: SustainedLoad | None = None
    predictions_on_test: PredictionsOnTest | None = None


class IndexEntry(Frozen):
    """One target of a build for several: its folder beside the index, how it ended, and in one sentence why."""

    target: str
    folder: str
    status: Literal["met", "not_met", "unmeasured"]
    verdict: str


class BuildIndex(Frozen):
    """`build.json` of a build for several targets: where each target's own lies."""

    schema_version: Literal[2] = 2
    edgedistill_version: str
    targets: tuple[IndexEntry, ...]
    seconds: float
