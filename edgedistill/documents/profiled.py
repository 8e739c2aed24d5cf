"""What `profile` finds of a file: its latency, which of two files is faster, whether a gate is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.documents.measurements import Environment, Latency, OpTiming
from edgedistill.documents.specs import Format, Frozen


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


class Gate(Frozen):
    """Whether a file keeps a `limit` ("5ms@p95", or "90%@p50" of the file that it is compared with): `values` are its
    sessions', in ms or as ratios, of which `over` are above it. It is kept where none is. A gate is no proof of a
    budget."""

    limit: str
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
