"""What was measured, predicted or is unknown of a file's latency: figures, sessions with their environment, what computes
operations, proofs.

All are frozen. Measured, predicted and unknown latencies are three types.
"""

from __future__ import annotations

import math
import statistics
from typing import Annotated, Literal

from pydantic import Field

from edgedistill.base.units import format_ms, format_percent, format_seconds
from edgedistill.documents.specs import Frozen, Percentile, Precision

Fraction = Annotated[float, Field(ge=0, le=1)]


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


class Core(Frozen):
    """A processor that a session is pinned to. `capacity` is relative to the largest core's 1024, null where all are
    alike; `siblings` are the processors on the same physical core, itself among them."""

    cpu: int
    capacity: int | None
    siblings: tuple[int, ...]


class Environment(Frozen):
    """Where and how samples were taken. Sessions that differ in any of these never make one profile. `agent` is what took
    them: in Python a run makes its arrays, which takes some time, in the C++ runner it does not, and in a browser the
    runtime copies them."""

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
    agent: Literal["python", "runner", "browser"] = "python"


class Moment(Frozen):
    """What the machine was like at one moment, `at` (UTC): recorded beside samples; no verdict uses it. Null is what the
    system does not tell.

    - `reference_us`: the duration of a fixed piece of arithmetic. `load`: the runnable processes of the last minute.
    - `clock_mhz`, `clock_limit_mhz`: of the first processor of the session, and the most that the system lets it have now.
    - `temperature_c`: the hottest place that is told. `throttle`: what holds the clocks back, in the system's own words,
      or `none`.
    - `battery_percent`, `charging`: null without a battery.
    - Counters: `waited_ms` is for how long the process was ready and had no processor, `stolen_ms` for how long the
      hypervisor gave its processors to others.
    """

    at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")]
    reference_us: float | None = None
    clock_mhz: float | None = None
    clock_limit_mhz: float | None = None
    temperature_c: float | None = None
    throttle: str | None = None
    battery_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    charging: bool | None = None
    load: float | None = None
    waited_ms: float | None = None
    stolen_ms: float | None = None


class OpTiming(Frozen):
    """Median time of one operator of the executed (fused) graph, over runs of a profiling session kept apart from the
    samples. `unit` is what computes it, in the runtime's words. `inputs`, its weights among them, and `outputs` are shapes,
    `bytes` those of all of them together. Empty and null where the runtime does not tell."""

    name: str
    op_type: str
    median_us: float
    unit: str = ""
    inputs: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()
    bytes: Annotated[int, Field(ge=0)] | None = None


class Session(Frozen):
    """One measuring process: warm-up runs, then raw samples in ns in the order taken, all of them.

    `anchor_ns` are those of the model that ran in turn with the file, `turns` how many runs of each there were in every
    turn; both empty where it ran alone. `start` and `end` are the machine around the samples, null where nothing
    recorded it. `first_run_ms` is the first run after loading, before the warm-up, null where it was not timed.
    `picture_to_label_ms` is from a decoded picture of 640 x 480 to the likeliest class, of runs apart from the samples, null
    where that way was not gone. `peak_memory_bytes` is the process' largest resident size and `model_memory_bytes` what of
    it came with the model, both null where the system does not tell. `retaken` counts sessions that were begun in its place
    and lost with the connection: they gave no samples.
    """

    samples_ns: Annotated[tuple[int, ...], Field(min_length=1)]
    anchor_ns: tuple[int, ...] = ()
    turns: tuple[tuple[int, int], ...] = ()
    warmup_runs: int
    start: Moment | None = None
    end: Moment | None = None
    load_ms: float
    first_run_ms: float | None = None
    picture_to_label_ms: float | None = None
    peak_memory_bytes: int | None
    model_memory_bytes: int | None
    retaken: Annotated[int, Field(ge=0)] = 0


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


class Profile(Frozen):
    """Latency of one artifact on one device, session by session; `anchor_sha256` is the file that ran in turn with it,
    null where it ran alone. `fallbacks` is what computes its operations, null where the sessions do not tell."""

    artifact_sha256: str
    anchor_sha256: str | None = None
    target: str
    precision: Precision
    environment: Environment
    sessions: tuple[Session, ...]
    op_timings: tuple[OpTiming, ...]
    fallbacks: Fallbacks | None = None

    @property
    def peak_memory_bytes(self) -> int | None:
        """Of a process that runs the file, in the worst session; None where a session does not tell it."""
        known = [session.peak_memory_bytes for session in self.sessions if session.peak_memory_bytes is not None]
        return max(known, default=None) if len(known) == len(self.sessions) else None


class StandIn(Frozen):
    """What was run in place of a file that cannot run here, said by `what`. Its answers to `images` validation images
    help to decide whether the file is worth shipping and are never given as the file's own."""

    what: str
    quality_validation: Fraction
    images: int
    right: Annotated[str, Field(pattern=r"^[0-9a-f]*$")] = ""


class Proof(Frozen):
    """Sessions of one exact artifact, and whether they prove the budget.

    `values` are the sessions' percentiles in order: latencies in ms, or, where `share` is true, ratios to the teacher's
    fp32 file, which ran in turn with it. The claim: with `confidence`, at least `claimed` (0 to 1) of such sessions
    stay at or below `limit`. It is `met` where no more of them than `over_allowed` were over, which bounds their share
    (exact binomial), and the one-sided tolerance bound of their logs, `bound`, is inside as well. `alpha` is what of 1
    - `confidence` this look at this finalist has: so many looks and finalists were allowed before the first sample.

    Sessions of `session_s` seconds were spread over `period_s`, from `began_at` (UTC); the two files of a share took turns
    of `burst_s`. Sessions too short for the percentile compare medians in its place (`by_median`). `retaken` sessions
    besides were lost with the connection to the device, without samples. `start` and `end` are the machine then.
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
    retaken: Annotated[int, Field(ge=0)] = 0
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
