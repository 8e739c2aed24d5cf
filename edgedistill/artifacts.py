"""The objects that a build passes along, one per arrow; the document it ends with is in `results.py`.

All are frozen pydantic models holding plain values and paths, so that a build can be stopped, moved and resumed.
Measured, predicted and unknown latencies are three types; accuracy on the test split exists on the finished build alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgedistill.specs import (
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


class MeasuredLatency(Frozen):
    """Percentiles of raw samples taken on `device` from the artifact with this hash.

    `reference_us` is the processor's speed meanwhile, as the duration of a fixed piece of arithmetic (see Session), null
    where it was not taken; `slowdown` how much longer that took than while the teacher was measured: 1.0 at the same
    speed, 1.5 on a processor that a neighbour keeps busy.
    """

    kind: Literal["measured"] = "measured"
    p50_ms: float
    p95_ms: float
    p99_ms: float
    samples: int
    device: str
    reference_us: float | None = None
    slowdown: Annotated[float, Field(gt=0)] = 1.0

    def at(self, percentile: Percentile) -> float:
        """Latency in ms at `percentile`."""
        return {Percentile.P50: self.p50_ms, Percentile.P95: self.p95_ms, Percentile.P99: self.p99_ms}[percentile]

    def comparable(self, percentile: Percentile) -> float:
        """Latency in ms at `percentile` as it would be at the teacher's speed: what the search compares with its budget and
        with other candidates. It is an estimate where `slowdown` is not 1, and never a proof."""
        return self.at(percentile) / self.slowdown


class PredictedLatency(Frozen):
    """A model's estimate of a file in one `precision` at one percentile, with its 95% interval. `basis` says from what."""

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
    """A student's weights after `epochs` of a schedule of `total_epochs`. `accuracy_validation` is the torch model's, in
    fp32: it ranks candidates between rungs and is never reported as an artifact's. `train_seconds` counts all epochs so far,
    `images_per_second` is the speed over them, null where it is not known."""

    spec: StudentSpec
    weights: Path
    epochs: int
    total_epochs: int
    accuracy_validation: Fraction
    train_seconds: float
    images_per_second: float | None = None


class TensorSignature(Frozen):
    """One input or output of a model file. `dtype` is NumPy's name, or `RGB image` for a picture, whose shape is its height
    and width. An open dimension is -1."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def shown(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


class Layer(Frozen):
    """A layer with weights of its own: a convolution, a linear layer, a matrix product with a constant. `name` is the file's
    word for it. `weights` is the type that they are stored in, `arithmetic` what the layer computes in: `float32`,
    `float16`, `int8`, or `int8 dynamic` where activations are rounded by ranges found at every run. `parameters` counts its
    weights, biases aside."""

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
    """Who computes the operations of a file: `by` (a delegate, an execution provider, a compute unit) all but those
    `elsewhere`, which are counted by name; of `operations` in all. Both are null where that is not known here, and `unknown`
    says why. The cast of the image's bytes in front of a graph is not counted."""

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
    """What can be told about an artifact without running it. `checks` are sentences of what was checked, with the result;
    `operations` counts by kind, in the format's own words; `layers` are those with weights; `bytes_by_part` adds up to the
    file (an engine cannot be taken apart: empty); `facts` are what only this format has."""

    checks: tuple[str, ...]
    inputs: tuple[TensorSignature, ...] = ()
    outputs: tuple[TensorSignature, ...] = ()
    operations: dict[str, int] = {}
    layers: tuple[Layer, ...] = ()
    bytes_by_part: dict[str, int] = {}
    fallbacks: Fallbacks | None = None
    facts: dict[str, str] = {}


class CompiledArtifact(Frozen):
    """A file that the target's runtime loads. `toolchain` are names and versions of what made it, `record` the builder's
    own words about it (capabilities, log), `fallbacks` who computes its operations. `handed_over` is the network as the
    builder was given it, for a format that cannot be read back."""

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
    """The artifact was run: by its own runtime (`device`), or by an interpreter that computes what the file says where that
    runtime does not exist (`reference`: the numbers are the file's, the arithmetic is not the device's)."""

    kind: Literal["run"] = "run"
    computed_by: ComputedBy = ComputedBy.DEVICE
    parity: Parity
    accuracy_validation: Fraction


class Inspected(Frozen):
    """The artifact could not be run here. `checks` are what was checked instead, each a sentence with its result."""

    kind: Literal["inspected"] = "inspected"
    reason: str
    checks: tuple[str, ...]


Verification = Annotated[Verified | Inspected, Field(discriminator="kind")]


class Environment(Frozen):
    """Where and how samples were taken. Samples that differ in any of these are never pooled."""

    device: str
    os: str
    machine: str
    cpu: str
    runtime: str
    runtime_version: str
    provider: str
    threads: int
    pinned_cpus: tuple[int, ...]
    power: str
    temperature_c: float | None


class OpTiming(Frozen):
    """Median time of one operator of the executed (fused) graph, over runs of a profiling session kept apart from the
    samples."""

    name: str
    op_type: str
    median_us: float


class Session(Frozen):
    """One measuring process: warm-up runs, then raw samples in ns in the order taken (`samples_ns`).

    `reference_us` is how long a fixed piece of arithmetic took in the same process between them (the median): it tells how
    fast the processor was, whatever the model. None where it was not taken. `set_aside` counts samples that are not among
    them because the processor ran at another speed meanwhile, `waited_s` is how long the session waited for its speed.
    """

    samples_ns: tuple[int, ...]
    warmup_runs: int
    load_ms: float
    peak_memory_bytes: int
    model_memory_bytes: int
    drift: float
    noisy: bool
    reference_us: float | None = None
    set_aside: int = 0
    waited_s: float = 0.0


class Profile(Frozen):
    """Latency of one artifact on one device. `drift` and noise are flagged by session; a flagged session was measured
    again (`remeasured` counts how often) and the flag stays if it came out the same."""

    artifact_sha256: str
    target: str
    precision: Precision
    environment: Environment
    sessions: tuple[Session, ...]
    op_timings: tuple[OpTiming, ...]
    remeasured: int = 0


class StandIn(Frozen):
    """What was run in place of a file that cannot run here, said by `what`. Its accuracy helps to decide whether the file
    is worth shipping and is never given as the file's own."""

    what: str
    accuracy_validation: Fraction


# -- the study --------------------------------------------------------------------------------------------------


class SchemeResult(Frozen):
    """One precision of one candidate on the target's own runtime. `profile` is the cache's key of its raw samples; `dropped`
    is why it was turned away, empty if kept. `peak_memory_bytes` is of a process that runs the file, null where it was not
    measured."""

    scheme: QuantScheme
    artifact: CompiledArtifact
    verification: Verification
    latency: Latency
    peak_memory_bytes: int | None = None
    profile: str | None = None
    stand_in: StandIn | None = None
    dropped: str = ""


class LadderRung(Frozen):
    """One file that was tried: accuracy on the validation split, `loss` beside fp32 (both null where the file could not be
    made or run), bytes, p50 in ms (null where it was not measured). `reason` says why it was turned away, empty for the
    winner."""

    scheme: QuantScheme
    accuracy: Fraction | None = None
    loss: float | None = None
    bytes: int | None = None
    p50_ms: float | None = None
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
    """One candidate. `state` is how far it came: `failed` has a reason; `pruned` was less accurate than others at its last
    rung; `over_budget` was turned away by a measurement; `complete` went through all rungs."""

    number: int
    spec: StudentSpec
    parameters: int
    multiply_adds: int
    predicted: Latency
    rungs: tuple[Rung, ...] = ()
    schemes: tuple[SchemeResult, ...] = ()
    state: Literal["failed", "pruned", "over_budget", "complete"]
    reason: str


class Proof(Frozen):
    """The acceptance rule applied to the winner's exact artifact: in every session the order statistic at `ranks` is
    inside the budget, which bounds the true percentile with 95% confidence. `set_aside_per_session` counts what was sampled
    besides while the processor ran at another speed (see Session; empty in builds that did not count)."""

    artifact_sha256: str
    sessions: int
    samples_per_session: tuple[int, ...]
    set_aside_per_session: tuple[int, ...] = ()
    ranks: tuple[int, ...]
    bounds_ms: tuple[float, ...]
    pause_s: float
    met: bool
