"""What `profile` finds of a file: its latency, which of two files is faster, whether a gate is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.base.errors import InputError
from edgedistill.base.units import format_ms, format_percent, parse_fraction, parse_latency_ms
from edgedistill.documents.measurements import Environment, Latency, OpTiming
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


class ProfileResult(Frozen):
    """What `profile` returns: the file, its latency and the operators that cost it. `comparison` and `gate` are null where
    none was asked for."""

    path: str
    format: Format
    sha256: str
    bytes: int
    latency: Latency
    comparison: Comparison | None = None
    gate: Gate | None = None
    peak_memory_bytes: int | None
    load_ms: float | None
    first_run_ms: float | None = None
    op_timings: tuple[OpTiming, ...]
    environment: Environment | None
    notes: tuple[str, ...]
