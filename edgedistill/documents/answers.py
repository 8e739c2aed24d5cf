"""What the commands answer, as `--json` prints it; a build's own documents are in `results.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgedistill.documents.artifacts import CalibrationSet, Fraction, Inspection, LadderRung, Parity
from edgedistill.documents.measurements import Fallbacks, Latency
from edgedistill.documents.package import Platform
from edgedistill.documents.results import SplitSizes
from edgedistill.documents.specs import ComputedBy, Contract, Format, Frozen, Metric, Precision, Probabilities


class ExportedFile(Frozen):
    """A file that `export` wrote. `path` is relative to the output folder. `parity` is beside the fp32 torch program (the
    outputs of an ONNX model, where that was exported), computed by `computed_by`; where nothing here can run the file it is
    null and `not_run` says why. `checks` are sentences of what was checked. `record` are the builder's own words,
    `fallbacks` what computes the operations. Seconds are wall time: of conversion and compilation, and of running it for
    parity."""

    format: Format
    precision: Precision
    path: str
    bytes: int
    sha256: str
    parity: Parity | None
    computed_by: ComputedBy | None
    not_run: str
    checks: tuple[str, ...]
    record: dict[str, str]
    fallbacks: Fallbacks | None
    seconds_conversion: float
    seconds_verification: float


class ExportFailure(Frozen):
    """A format and precision that could not be made: why, and the way out."""

    format: Format
    precision: Precision
    cause: str
    problems: tuple[str, ...]
    fix: str
    seconds: float


class ExportResult(Frozen):
    """What `export` made of one model. `contract` is null for an ONNX file that carries none."""

    schema_version: Literal[1] = 1
    edgedistill_version: str
    model: str
    contract: Contract | None
    parameters: int | None
    files: tuple[ExportedFile, ...]
    failures: tuple[ExportFailure, ...]
    notes: tuple[str, ...]


class DeviceStatus(Frozen):
    """A device that `devices` knows of. `target` is the one whose builds take it, empty for none. It `answers`, and then
    `facts` say what it is, or `problem` says why not. `fix` says what to do."""

    name: str
    address: str
    target: str
    answers: bool
    facts: dict[str, str]
    problem: str = ""
    fix: str = ""


class DeviceList(Frozen):
    """What `devices` found: this machine, those of the user's `file`, and those that adb knows besides."""

    schema_version: Literal[1] = 1
    edgedistill_version: str
    file: str
    devices: tuple[DeviceStatus, ...]


class DeviceStep(Frozen):
    """One thing that `devices check` tried: whether it is `ok`, and where not, what brings it. `needed` where no budget can
    be measured without."""

    name: str
    ok: bool
    needed: bool
    detail: str
    fix: str = ""


class DeviceCheck(Frozen):
    """What `devices check` found of a device. It is `ready` where all that is needed works: of its target's runtime, or
    without a target of one runtime at least."""

    schema_version: Literal[1] = 1
    edgedistill_version: str
    name: str
    address: str
    target: str
    ready: bool
    facts: dict[str, str]
    steps: tuple[DeviceStep, ...]


class CheckedTarget(Frozen):
    """A target file and what is wrong with it, with lines: nothing where it is as it should be."""

    name: str
    path: str
    problems: tuple[str, ...]


class TargetsCheck(Frozen):
    """What `targets check` found."""

    schema_version: Literal[1] = 1
    edgedistill_version: str
    targets: tuple[CheckedTarget, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with any."""
        return not any(target.problems for target in self.targets)


class VerifyResult(Frozen):
    """What `verify` found in a file: `ok` is the sum of it. `parity` is beside `against`, a second file, on the same
    `parity.images` probe images, or beside the golden outputs of the package that the file lies in."""

    schema_version: Literal[1] = 1
    path: str
    format: Format
    precision: Precision
    sha256: str
    ok: bool
    checks: tuple[str, ...]
    failures: tuple[str, ...]
    against: str | None
    parity: Parity | None
    computed_by: ComputedBy | None
    not_run: str


class PackageVerifyResult(Frozen):
    """What `package verify` found in a package: `ok` is the sum of it. `files` is how many files it has, `verified` what was
    found in each model file."""

    schema_version: Literal[1] = 1
    path: str
    ok: bool
    files: int
    checks: tuple[str, ...]
    failures: tuple[str, ...]
    verified: tuple[VerifyResult, ...]


class ChangedAnswers(Frozen):
    """Of how many `images` two files give another answer: another most probable class, or for an embedding a vector with a
    cosine below 0.99. `gained` and `lost` are those that the second file alone, and the first alone, gets right, where it is
    known what they show."""

    images: int
    changed: int
    gained: int | None
    lost: int | None

    @property
    def share(self) -> float:
        return self.changed / self.images


class FileDiff(Frozen):
    """The files of one format in two packages; null where a package has none. `quality` and `latency` are what the packages
    say. `on_golden` is of the golden pictures of the first package, `on_data` of the user's images; null where nothing here
    runs both files."""

    format: Format
    files: tuple[str | None, str | None]
    bytes: tuple[int | None, int | None]
    quality: tuple[Fraction | None, Fraction | None]
    latency: tuple[Latency | None, Latency | None]
    on_golden: ChangedAnswers | None
    on_data: ChangedAnswers | None
    not_run: str


class PackageDiff(Frozen):
    """What differs between two packages. `contract` are sentences; `max_changed` is the largest share of answers that may
    change, null where none was asked for; `ok` says whether it is kept."""

    schema_version: Literal[1] = 1
    paths: tuple[str, str]
    contract: tuple[str, ...]
    metric: Metric
    files: tuple[FileDiff, ...]
    data: str | None
    max_changed: Fraction | None
    ok: bool


class KitResult(Frozen):
    """A project that `kit` wrote for an app on `platform` into the folder `path`, around the model file `file`.
    `first_steps` is a shell command that starts it."""

    schema_version: Literal[1] = 1
    platform: Platform
    path: str
    file: str
    first_steps: str


class EvaluateResult(Frozen):
    """Quality of a file on a data set, on `images` images of `split`: what `metric` (`accuracy`: the share of right
    answers) comes to."""

    schema_version: Literal[2] = 2
    path: str
    format: Format
    precision: Precision
    sha256: str
    data: str
    split: str
    images: int
    metric: Metric
    quality: Fraction
    computed_by: ComputedBy
    seconds: float


class InspectResult(Inspection):
    """What is in a file, without running it."""

    schema_version: Literal[1] = 1
    path: str
    format: Format
    precision: Precision
    bytes: int
    sha256: str
    contract: Contract | None
    probabilities: Probabilities | None = None


class FormatLadder(Frozen):
    """What the ladder found in one format. `quality` (null where it cannot be run) and `bytes` are the fp32 file's, on the
    validation split, computed by `computed_by`. `path`, relative to the output folder, is the winner's file and null
    without one; `beside` are files of other kinds (fp16, weights alone), `paths` those of them that were written. `problem`
    says why there is no ladder at all."""

    format: Format
    quality: Fraction | None = None
    bytes: int | None = None
    computed_by: ComputedBy | None = None
    rungs: tuple[LadderRung, ...] = ()
    beside: tuple[LadderRung, ...] = ()
    path: str | None = None
    paths: tuple[str, ...] = ()
    problem: str = ""

    @property
    def winner(self) -> LadderRung | None:
        return next((rung for rung in self.rungs if rung.accepted), None)


class QuantizeResult(Frozen):
    """What `quantize` answers. `calibration` are the training images that ranges were read off; `images` validation images
    judged the rungs, by `metric`."""

    schema_version: Literal[2] = 2
    metric: Metric
    model: str
    data: str
    target: str
    max_loss: float
    calibration: CalibrationSet
    images: int
    formats: tuple[FormatLadder, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return all(one.winner is not None for one in self.formats)


class Guess(Frozen):
    """One class of an image: its place in the output, its name, and its probability: the softmax of the logits, divided by
    the file's temperature where it says one."""

    index: int
    label: str
    probability: Fraction


class RunResult(Frozen):
    """The most probable classes of one image, the first first; of a model for embeddings its `vector` instead.
    `none_of_these` says that none of them is probable enough, by what the file carries."""

    schema_version: Literal[1] = 1
    path: str
    format: Format
    input: str
    computed_by: ComputedBy
    top: tuple[Guess, ...] = ()
    none_of_these: bool = False
    vector: tuple[float, ...] = ()


class PlannedRung(Frozen):
    """A rung of the first bracket: so many students trained from the rung before to `epochs`, `image_passes` in all."""

    epochs: int
    students: int
    image_passes: int


class PlannedTeacher(Frozen):
    """The teacher, and what it costs: `multiply_adds` of one image at `resolution`, null for a file. Of a file of outputs
    nothing is known. `fit_epochs` is null where it is not fitted; `fit_seconds` is how long that took, null unless the cache
    has it. `crossfit` is how many more are fitted."""

    model: str
    resolution: int | None
    parameters: int | None
    multiply_adds: int | None
    fit_epochs: int | None
    crossfit: int | None
    fit_seconds: Annotated[float, Field(ge=0)] | None


class PlannedTarget(Frozen):
    """What a search would measure on one target: `probes` models before the first proposal, each in every one of
    `precisions`. `measure_seconds` is what that, the first bracket, the teacher and a proof take if every student of the
    bracket is measured and the proof ends at its first look. `formats` are those that a build makes of the winner."""

    target: str
    measured: bool
    probes: int
    precisions: tuple[str, ...]
    formats: tuple[str, ...]
    measure_seconds: Annotated[float, Field(ge=0)]


class PlannedSearch(Frozen):
    """What a search would do, for one target or for several that one student is to serve. `candidates` are counted by family
    in `families`; `pilot` is what the default recipe may take to choose, null for another one; `assistant` is the trying of
    so many and the training of one, null where none is tried for the middle candidate; `rungs` are the first bracket's,
    `crossed` its finalists in cross-validation, null where none is asked for, and at most `trials` candidates are begun in
    all. `train_seconds` is what all of these would take by the speed of earlier trainings in the cache, null where
    there are none."""

    targets: tuple[PlannedTarget, ...]
    candidates: int
    families: dict[str, int]
    pilot: PlannedRung | None
    assistant: PlannedRung | None
    rungs: tuple[PlannedRung, ...]
    crossed: PlannedRung | None = None
    trials: int
    train_seconds: Annotated[float, Field(ge=0)] | None


class Plan(Frozen):
    """What `--dry-run` answers: the data, how many `views` of each training image are stored, the teacher and the further
    ones, which all searches share, and each search."""

    schema_version: Literal[1] = 1
    data: SplitSizes
    views: Annotated[int, Field(ge=1)]
    teacher: PlannedTeacher
    teachers: tuple[PlannedTeacher, ...] = ()
    searches: tuple[PlannedSearch, ...]


class DoctorCheck(Frozen):
    """One thing looked at. `detail` says what it does here or why it does not; `fix` is the command that brings it."""

    kind: Literal["package", "format", "device", "tool"]
    name: str
    usable: bool
    version: str = ""
    detail: str = ""
    fix: str = ""


class Machine(Frozen):
    """This machine, as far as it bears on latency."""

    system: str
    machine: str
    python: str
    cpu: str
    cpus: int
    cpu_features: tuple[str, ...]
    memory_bytes: int


class CacheFolder(Frozen):
    """Where finished stages are kept. `problem` is empty where the folder can be used."""

    path: str
    bytes: int
    free_bytes: int | None
    problem: str = ""


class Diagnosis(Frozen):
    """All that `edgedistill doctor` finds."""

    edgedistill_version: str
    machine: Machine
    cache: CacheFolder
    checks: tuple[DoctorCheck, ...]


class SignalSummary(Frozen):
    """What a teacher gave at `tap`: `width` numbers in `bytes_per_view` for a view of an image, `bytes` in all."""

    tap: str
    path: str
    width: int
    bytes_per_view: int
    bytes: int


class LogitsSummary(Frozen):
    """What stored logits say of the teacher, means over images and views: how often its class is the label (of labelled
    training images), how often it is the one that it names most for an image, its largest probability, and the entropy of
    its probabilities. Where not all classes are kept, `error_mean` and `error_largest` tell what that costs: half the sum of
    the differences between the teacher's probabilities at temperature 2 and those that are read; null where all are."""

    agreement_labels: Fraction | None
    agreement_views: Fraction
    confidence: Fraction
    confidence_unlabelled: Fraction | None
    entropy_nats: Annotated[float, Field(ge=0)]
    error_mean: Fraction | None = None
    error_largest: Fraction | None = None


class ViewsInfo(Frozen):
    """What the students of a build learn from: `views` of each of `images` training images, `labelled` of which have a label
    and `learnt` of which are learnt from. `advice` are sentences."""

    schema_version: Literal[1] = 1
    path: str
    data: str
    views: int
    images: int
    labelled: int
    learnt: int
    bytes: int
    signals: tuple[SignalSummary, ...]
    logits: LogitsSummary | None
    advice: tuple[str, ...]


class CheckedSignal(Frozen):
    """Stored numbers beside the live teacher's: the mean and largest difference, and the largest number. `top_differs`
    counts the `rows` whose largest logit is another one; null for other taps."""

    tap: str
    error_mean: float
    error_largest: float
    value_largest: float
    top_differs: int | None
    rows: int


class ViewsCheck(Frozen):
    """What is stored, held against the live teacher on `images` drawn training images, each in all `views`."""

    schema_version: Literal[1] = 1
    images: int
    views: int
    signals: tuple[CheckedSignal, ...]
