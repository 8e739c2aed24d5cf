"""The objects that a build passes along, one per arrow; the document it ends with is in `results.py`.

All are frozen pydantic models holding plain values and paths, so that a build can be stopped, moved and resumed.
Measured, predicted and unknown latencies are three types; accuracy on the test split exists on the finished build
alone.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgedistill.base.intervals import Answers
from edgedistill.base.units import format_ms, format_percent, format_seconds
from edgedistill.documents.specs import (
    ComputedBy,
    Format,
    Frozen,
    Percentile,
    Precision,
    QuantScheme,
    StudentSpec,
)

Fraction = Annotated[float, Field(ge=0, le=1)]


# -- latency: three kinds that are never mixed ------------------------------------------------------------------


class Percentiles(Frozen):
    """A figure at each percentile: latencies in ms, or ratios of them."""

    p50: Annotated[float, Field(gt=0)]
    p95: Annotated[float, Field(gt=0)]
    p99: Annotated[float, Field(gt=0)]

    def at(self, percentile: Percentile) -> float:
        """The figure at `percentile`."""
        return {Percentile.P50: self.p50, Percentile.P95: self.p95, Percentile.P99: self.p99}[percentile]


class RelativeLatency(Percentiles):
    """A file's latency as a ratio to that of the anchor with this hash, which ran in turn with it in the same
    processes: 0.8 is a fifth faster. Sessions too short for a percentile compare medians in its place (`by_median`).

    `anchor_ms` is the anchor's own latency, from the same figures for all files that are compared. It turns ratios into
    milliseconds for ranking and prediction; no verdict uses them.
    """

    by_median: tuple[Percentile, ...] = ()
    anchor_sha256: str
    anchor_ms: Percentiles

    def in_ms(self, percentile: Percentile) -> float:
        """The ratio of medians times the anchor's own latency at `percentile`: what is compared and predicted, and never
        a proof. How long the slowest runs of a session take depends on what else the machine did meanwhile:
        docs/explanation/measuring.md has figures."""
        return self.p50 * self.anchor_ms.at(percentile)


class MeasuredLatency(Frozen):
    """Percentiles in ms of raw samples taken on `device` from the artifact with this hash: those of each session, then
    the median over the `sessions`. `samples` counts the runs of all. `relative` is null where no anchor ran beside
    it."""

    kind: Literal["measured"] = "measured"
    p50_ms: float
    p95_ms: float
    p99_ms: float
    samples: int
    sessions: int = 1
    device: str
    relative: RelativeLatency | None = None

    def at(self, percentile: Percentile) -> float:
        """Latency in ms at `percentile`, as it was."""
        return {Percentile.P50: self.p50_ms, Percentile.P95: self.p95_ms, Percentile.P99: self.p99_ms}[percentile]

    def comparable(self, percentile: Percentile) -> float:
        """Latency in ms at `percentile` that the search compares with other files: the ratio of medians to the anchor
        times the anchor's own latency; without an anchor `at`. It is never a proof."""
        return self.at(percentile) if self.relative is None else self.relative.in_ms(percentile)


class PredictedLatency(Frozen):
    """A model's estimate of a file in one `precision` at one percentile, with its 90% interval. `basis` says from
    what."""

    kind: Literal["predicted"] = "predicted"
    latency_ms: float
    low_ms: float
    high_ms: float
    percentile: Percentile
    precision: Precision
    calibrated: bool
    basis: str
    device: str


class UnknownLatency(Frozen):
    """No measurement and no prediction; `reason` says why and what would give one."""

    kind: Literal["unknown"] = "unknown"
    reason: str
    device: str


Latency = Annotated[MeasuredLatency | PredictedLatency | UnknownLatency, Field(discriminator="kind")]


# -- from student to file ---------------------------------------------------------------------------------------


class TrainedStudent(Frozen):
    """A student's weights after `epochs` of a schedule of `total_epochs`. `accuracy_validation` is the torch model's,
    in fp32: it ranks candidates between rungs and is never reported as an artifact's. `train_seconds` counts all epochs
    so far, `images_per_second` is the speed over them, null where it is not known."""

    spec: StudentSpec
    weights: Path
    epochs: int
    total_epochs: int
    accuracy_validation: Fraction
    train_seconds: float
    images_per_second: float | None = None


class TensorSignature(Frozen):
    """One input or output of a model file. `dtype` is NumPy's name, or `RGB image` for a picture, whose shape is its
    height and width. An open dimension is -1."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def shown(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


class Layer(Frozen):
    """A layer with weights of its own: a convolution, a linear layer, a matrix product with a constant. `name` is the
    file's word for it. `weights` is the type that they are stored in, `arithmetic` what the layer computes in:
    `float32`, `float16`, `int8`, or `int8 dynamic` where activations are rounded by ranges found at every run.
    `parameters` counts its weights, biases aside."""

    name: str
    weights: str
    arithmetic: str
    parameters: int

    @property
    def described(self) -> str:
        """`int8`, or `int8 weights, float32` where the two differ."""
        return self.arithmetic if self.weights == self.arithmetic else f"{self.weights} weights, {self.arithmetic}"


class ExportedModel(Frozen):
    """A model file in a portable form, as the exporter or quantiser left it."""

    path: Path
    format: Format
    scheme: QuantScheme
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    sha256: str
    bytes: int


class Fallbacks(Frozen):
    """What computes the operations of a file: `by` (a delegate, an execution provider, a compute unit) all but those
    `elsewhere`, which are counted by name; of `operations` in all. Both are null where that is not known here, and
    `unknown` says why. The cast of the image's bytes in front of a graph is not counted."""

    by: str
    operations: int | None = None
    elsewhere: dict[str, int] | None = None
    unknown: str = ""

    @property
    def sentence(self) -> str:
        """`XNNPACK computes 60 of 63 operations; elsewhere: native_layer_norm 3`."""
        if self.operations is None or self.elsewhere is None:
            return f"not known here: {self.unknown}"
        left = sum(self.elsewhere.values())
        told = f"{self.by} computes {self.operations - left} of {self.operations} operations"
        listed = ", ".join(f"{name} {count}" for name, count in sorted(self.elsewhere.items()))
        return f"{told}; elsewhere: {listed}" if left else told


class Inspection(Frozen):
    """What can be told about an artifact without running it. `checks` are sentences of what was checked, with the
    result; `operations` counts by kind, in the format's own words; `layers` are those with weights; `bytes_by_part`
    adds up to the file (an engine cannot be taken apart: empty); `facts` are what only this format has."""

    checks: tuple[str, ...]
    inputs: tuple[TensorSignature, ...] = ()
    outputs: tuple[TensorSignature, ...] = ()
    operations: dict[str, int] = {}
    layers: tuple[Layer, ...] = ()
    bytes_by_part: dict[str, int] = {}
    fallbacks: Fallbacks | None = None
    facts: dict[str, str] = {}


class CompiledArtifact(Frozen):
    """A file that the target's runtime loads. `toolchain` are names and versions of what made it, `record` the
    builder's own words about it (capabilities, log), `fallbacks` what computes its operations. `handed_over` is the
    network as the builder was given it, for a format that cannot be read back."""

    path: Path
    format: Format
    scheme: QuantScheme
    target: str
    toolchain: dict[str, str]
    sha256: str
    bytes: int
    record: dict[str, str] = {}
    fallbacks: Fallbacks | None = None
    handed_over: Inspection | None = None


class Parity(Frozen):
    """An artifact's outputs beside the fp32 torch program's, on `images` validation images: the largest absolute
    difference of any logit, and the share of images whose top class agrees."""

    max_abs_error: float
    top1_agreement: Fraction
    images: int


class Verified(Frozen):
    """The artifact was run: by its own runtime (`device`), or by an interpreter that computes what the file says where
    that runtime does not exist (`reference`: the numbers are the file's, the arithmetic is not the device's). `right`
    is one bit for each validation image in order, 1 where its top class is the label, packed as hexadecimal digits: two
    files are compared image by image. Empty where it was not kept."""

    kind: Literal["run"] = "run"
    computed_by: ComputedBy = ComputedBy.DEVICE
    parity: Parity
    accuracy_validation: Fraction
    right: Annotated[str, Field(pattern=r"^[0-9a-f]*$")] = ""


class Inspected(Frozen):
    """The artifact could not be run here. `checks` are what was checked instead, each a sentence with its result."""

    kind: Literal["inspected"] = "inspected"
    reason: str
    checks: tuple[str, ...]


Verification = Annotated[Verified | Inspected, Field(discriminator="kind")]


class Core(Frozen):
    """A processor that a session is pinned to. `capacity` is relative to the largest core's 1024, null where all are
    alike; `siblings` are the processors on the same physical core, itself among them."""

    cpu: int
    capacity: int | None
    siblings: tuple[int, ...]


class Environment(Frozen):
    """Where and how samples were taken. Sessions that differ in any of these never make one profile."""

    device: str
    os: str
    machine: str
    cpu: str
    runtime: str
    runtime_version: str
    provider: str
    threads: int
    pinned_cpus: tuple[int, ...]
    cores: tuple[Core, ...] = ()
    power: str


class Moment(Frozen):
    """What the machine was like at one moment, `at` (UTC): recorded beside samples; no verdict uses it. `reference_us` is
    the duration of a fixed piece of arithmetic, `load` the runnable processes of the last minute. Counters: `waited_ms`
    is for how long the process was ready and had no processor, `stolen_ms` for how long the hypervisor gave its
    processors to others. Null is what the system does not tell."""

    at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")]
    reference_us: float | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None
    load: float | None = None
    waited_ms: float | None = None
    stolen_ms: float | None = None


class OpTiming(Frozen):
    """Median time of one operator of the executed (fused) graph, over runs of a profiling session kept apart from the
    samples."""

    name: str
    op_type: str
    median_us: float


class Session(Frozen):
    """One measuring process: warm-up runs, then raw samples in ns in the order taken, all of them.

    `anchor_ns` are those of the model that ran in turn with the file, `turns` how many runs of each there were in every
    turn; both empty where it ran alone. `start` and `end` are the machine around the samples, null where nothing
    recorded it.
    """

    samples_ns: Annotated[tuple[int, ...], Field(min_length=1)]
    anchor_ns: tuple[int, ...] = ()
    turns: tuple[tuple[int, int], ...] = ()
    warmup_runs: int
    start: Moment | None = None
    end: Moment | None = None
    load_ms: float
    peak_memory_bytes: int
    model_memory_bytes: int


class Profile(Frozen):
    """Latency of one artifact on one device, session by session; `anchor_sha256` is the file that ran in turn with it,
    null where it ran alone."""

    artifact_sha256: str
    anchor_sha256: str | None = None
    target: str
    precision: Precision
    environment: Environment
    sessions: tuple[Session, ...]
    op_timings: tuple[OpTiming, ...]


class StandIn(Frozen):
    """What was run in place of a file that cannot run here, said by `what`. Its answers to `images` validation images
    help to decide whether the file is worth shipping and are never given as the file's own."""

    what: str
    accuracy_validation: Fraction
    images: int
    right: Annotated[str, Field(pattern=r"^[0-9a-f]*$")] = ""


# -- the study --------------------------------------------------------------------------------------------------


class Proof(Frozen):
    """Sessions of one exact artifact, and whether they prove the budget.

    `values` are the sessions' percentiles in order: latencies in ms, or, where `share` is true, ratios to the teacher's
    fp32 file, which ran in turn with it. The claim: with `confidence`, at least `claimed` (0 to 1) of such sessions
    stay at or below `limit`. It is `met` where no more of them than `over_allowed` were over, which bounds their share
    (exact binomial), and the one-sided tolerance bound of their logs, `bound`, is inside as well. `alpha` is what of 1
    - `confidence` this look at this finalist has: so many looks and finalists were allowed before the first sample.

    Sessions of `session_s` seconds were spread over `period_s`, from `began_at` (UTC); the two files of a share took turns
    of `burst_s`. Sessions too short for the percentile compare medians in its place (`by_median`). `start` and `end` are the
    machine then.
    """

    artifact_sha256: str
    anchor_sha256: str | None = None
    target: str
    percentile: Percentile
    by_median: bool = False
    share: bool
    limit: Annotated[float, Field(gt=0)]
    claimed: Fraction
    confidence: Fraction
    alpha: Fraction
    values: tuple[float, ...]
    over: int
    over_allowed: int
    bound: float | None
    session_s: float
    burst_s: float = 0.0
    period_s: float
    began_at: str
    start: Moment | None = None
    end: Moment | None = None
    met: bool

    @property
    def spread(self) -> float:
        """Standard deviation of the log of the sessions' percentile: 0.1 is 10% from one to the next."""
        return statistics.stdev(map(math.log, self.values)) if len(self.values) > 1 else 0.0

    def figure(self, value: float) -> str:
        """A session's value or a bound, for a place that says of what a share is: `0.0951 ms`, or `7.8%`."""
        return format_percent(value) if self.share else format_ms(value)

    def shown(self, value: float) -> str:
        """A session's value or a bound: `0.0951 ms`, or `7.8% of the teacher's`."""
        return self.figure(value) + " of the teacher's" * self.share

    @property
    def reached(self) -> str:
        """What its sessions saw, from the least to the most: `0.0951 ms to 0.103 ms`, or `7.8% to 8.1% of the teacher's`."""
        return f"{self.figure(min(self.values))} to {self.shown(max(self.values))}"

    @property
    def sentence(self) -> str:
        """The claim, or what was seen in its place, with the sessions that it rests on."""
        short = ", or the median where a session is too short for it," if self.by_median else ""
        seen = (
            f"in {len(self.values)} sessions of {format_seconds(self.session_s)} over {format_seconds(self.period_s)} "
            f"{self.percentile}{short} was {self.reached}"
        )
        if self.met:
            sure, most = format_percent(self.confidence, 0), format_percent(self.claimed, 0)
            return (
                f"{seen}; with {sure} confidence at least {most} of such sessions stay below {self.shown(self.limit)}"
            )
        over = f"{self.over} of them were over {self.shown(self.limit)}, at most {self.over_allowed} may be"
        if self.over > self.over_allowed or self.bound is None:
            return f"{seen}; {over}"
        return f"{seen}; {over}, and they differ so much that the bound of such sessions is {self.shown(self.bound)}"


class SchemeResult(Frozen):
    """One precision of one candidate on the target's own runtime. `profile` is the cache's key of its raw samples;
    `dropped` is why it was not kept, empty if it was. `peak_memory_bytes` is of a process that runs the file, null
    where it was not measured. `multiplying` is the share of its operators' time in convolutions and matrix products,
    null where that is not known. `proof` is what was tried of this very file, met or not; null where none was."""

    scheme: QuantScheme
    artifact: CompiledArtifact
    verification: Verification
    latency: Latency
    peak_memory_bytes: int | None = None
    profile: str | None = None
    stand_in: StandIn | None = None
    multiplying: Fraction | None = None
    dropped: str = ""
    proof: Proof | None = None

    @property
    def disproven(self) -> bool:
        """Whether a proof of it was tried and is not met."""
        return self.proof is not None and not self.proof.met


def answers_of(result: SchemeResult) -> Answers | None:
    """A file's answers to the validation split, or those of what was run in its place; None where neither could be
    run."""
    ran = result.verification
    if isinstance(ran, Verified):
        return Answers(ran.accuracy_validation, ran.parity.images, ran.right)
    stood_in = result.stand_in
    return Answers(stood_in.accuracy_validation, stood_in.images, stood_in.right) if stood_in else None


class LadderRung(Frozen):
    """One file that was tried: accuracy on the validation split, `loss` beside fp32 (both null where the file could not
    be made or run), bytes, and its p50 as a ratio to that of the fp32 file, run in turn with it (null where it was not
    measured). `reason` says why it is rejected, empty for the winner."""

    scheme: QuantScheme
    accuracy: Fraction | None = None
    loss: float | None = None
    bytes: int | None = None
    relative_p50: float | None = None
    accepted: bool
    reason: str = ""


class CalibrationSet(Frozen):
    """Training images that ranges are read off, by their `indices` in the data set whose content hashes to
    `fingerprint`."""

    fingerprint: str
    seed: int
    indices: tuple[int, ...]


class Rung(Frozen):
    """A candidate's quality after so many epochs, on the validation split."""

    rung: int
    epochs: int
    accuracy_validation: Fraction


class Trial(Frozen):
    """One candidate. `state` is how far it came: `failed` has a reason; `pruned` was less accurate than others at its
    last rung; `over_budget` was rejected by a measurement; `complete` went through all rungs."""

    number: int
    spec: StudentSpec
    parameters: int
    multiply_adds: int
    predicted: Latency
    rungs: tuple[Rung, ...] = ()
    schemes: tuple[SchemeResult, ...] = ()
    state: Literal["failed", "pruned", "over_budget", "complete"]
    reason: str
