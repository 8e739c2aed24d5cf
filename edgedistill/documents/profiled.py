"""What `profile` finds of a file: its latency, which of two files is faster, whether a gate is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgedistill.base.errors import InputError
from edgedistill.base.units import format_ms, format_percent, parse_fraction, parse_latency_ms
from edgedistill.documents.imported import ByProgram
from edgedistill.documents.measurements import Environment, Fallbacks, Latency, OpTiming
from edgedistill.documents.specs import Format, Frozen, Percentile


class Comparison(Frozen):
    """How fast a file is beside the `other`, which ran in turn with it: the mean over sessions of the ratio of their
    medians, with its 95% interval (null for one session), and of their p95 (null where sessions are too short for it).
    Means are geometric, the interval is Student's of the logs. Below 1 the file is the faster one."""

    other: str
    p50_ratio: Annotated[float, Field(gt=0)]
    interval: tuple[float, float] | None
    p95_ratio: Annotated[float, Field(gt=0)] | None

    @property
    def told(self) -> bool:
        """Whether the sessions tell which one is faster."""
        return self.interval is not None and not self.interval[0] <= 1 <= self.interval[1]


class GateLimit(Frozen):
    """A latency at a percentile that each session has to keep: at most so many ms, or, where `share` is true, at most so
    many times that of the file that it is compared with."""

    most: Annotated[float, Field(gt=0)]
    share: bool
    percentile: Percentile

    @classmethod
    def parse(cls, text: str) -> GateLimit:
        """`"5ms"`, `"5ms@p99"`, `"105%@p50"`. Raises InputError on a wrong unit or percentile, or nothing to keep."""
        quantity, percentile = Percentile.of_limit(text)
        share = quantity.strip().endswith("%")
        most = parse_fraction(quantity) if share else parse_latency_ms(quantity)
        if most <= 0:
            raise InputError(f"{text!r}: no file takes no time", fix="e.g. 105%@p50: at most a twentieth slower")
        return cls(most=most, share=share, percentile=percentile)

    def __str__(self) -> str:
        return f"{format_percent(self.most) if self.share else format_ms(self.most)}@{self.percentile}"


class Gate(Frozen):
    """Whether a file keeps a `limit`: `values` are its sessions', in ms or as ratios, of which `over` are above it. It is
    kept where none is. A gate is no proof of a budget."""

    limit: GateLimit
    values: tuple[float, ...]
    over: Annotated[int, Field(ge=0)]

    @property
    def kept(self) -> bool:
        return not self.over


class Roofs(Frozen):
    """The most that a runtime reached on a device, with the threads of the target, in operators made for it: multiply-adds
    of large matrix products in a second, and bytes that an operator without arithmetic to speak of reads and writes in a
    second, `memory_` where they fit no cache, `cache_` where they fit a small one. Source: the roofline model, Williams et
    al. 2009, doi 10.1145/1498765.1498785, which has one ceiling of bandwidth."""

    fp32_multiply_adds_per_s: Annotated[float, Field(gt=0)]
    int8_multiply_adds_per_s: Annotated[float, Field(gt=0)]
    memory_bytes_per_s: Annotated[float, Field(gt=0)]
    cache_bytes_per_s: Annotated[float, Field(gt=0)]


class KeptProfile(Frozen):
    """What stays of a file's profile, for the next one of the same file on the same device: figures of each session in ms,
    and the operators."""

    schema_version: Literal[1] = 1
    edgedistill_version: str
    measured_at: str
    p50_ms: Annotated[tuple[float, ...], Field(min_length=1)]
    p95_ms: Annotated[tuple[float, ...], Field(min_length=1)]
    load_ms: float
    first_run_ms: float | None
    peak_memory_bytes: int | None
    environment: Environment
    op_timings: tuple[OpTiming, ...]


class OperatorChange(Frozen):
    """An operator of two profiles of a file, with its medians; null in the one that does not have it."""

    name: str
    op_type: str
    before_us: float | None
    now_us: float | None


class Since(Frozen):
    """What changed since the `last` profile of the same file on the same device. Ratios are of this one's geometric means
    over sessions to those of the last, the interval at 95% (Welch's of the logs, null where one of the two has one
    session). The two did not run in turn: neighbours, clocks and heat may have changed as well. `environment` says what
    did, each as a sentence; `operators` are those whose medians differ most."""

    last: KeptProfile
    p50_ratio: Annotated[float, Field(gt=0)]
    interval: tuple[float, float] | None
    p95_ratio: Annotated[float, Field(gt=0)]
    environment: tuple[str, ...]
    operators: tuple[OperatorChange, ...]


class ProfileResult(Frozen):
    """What `profile` returns: the file, its latency and the operators that cost it. `comparison` and `gate` are null where
    none was asked for, `since` where it is the first profile of this file on this device, `roofs` where no report was asked
    for or the format has no files that show them. `fallbacks` is what computes the operations, null where the sessions do
    not tell. `report` is the page that was written. `by_program` is what a vendor's program told, on a device that has no
    other: then `latency` is unknown, and so is most else."""

    path: str
    format: Format
    sha256: str
    bytes: int
    latency: Latency
    by_program: ByProgram | None = None
    comparison: Comparison | None = None
    gate: Gate | None = None
    peak_memory_bytes: int | None
    load_ms: float | None
    first_run_ms: float | None = None
    picture_to_label_ms: float | None = None
    op_timings: tuple[OpTiming, ...]
    fallbacks: Fallbacks | None = None
    environment: Environment | None
    since: Since | None = None
    roofs: Roofs | None = None
    report: str | None = None
    notes: tuple[str, ...]
