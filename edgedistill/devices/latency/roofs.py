"""The most that a runtime reaches on a device, from files made to show it, and what of that an operator reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedistill.devices.latency.operators import multiplies, multiply_adds
from edgedistill.devices.session import SessionJob, SessionReport
from edgedistill.documents.measurements import OpTiming
from edgedistill.documents.profiled import Roofs

SESSION_S = 0.1
"""Of samples, which are not used: what counts are the operators' times, taken apart."""


@dataclass(frozen=True)
class Placed:
    """An operator beside the roofs. `multiply_adds` of one run; `allowed_us` is the least time that they allow it: that of
    its arithmetic, or of its bytes from a cache, whichever is longer."""

    timing: OpTiming
    multiply_adds: int
    bytes: int
    allowed_us: float

    @property
    def reached(self) -> float:
        """Which share of what the roofs allow it reached; above 1 where it was faster than they are."""
        return self.allowed_us / self.timing.median_us

    @property
    def intensity(self) -> float:
        """Multiply-adds for each byte that it reads or writes."""
        return self.multiply_adds / self.bytes


def measure_roofs(
    files: Mapping[str, tuple[Path, str]], loader: Path, threads: int, execute: Callable[[SessionJob], SessionReport]
) -> Roofs | None:
    """A session of each of `files` (`ModelFormat.roof_files`, path and type of the operator that counts), `threads` threads
    each, by `execute`. The best median of a file's operators is its roof. None where operators are not timed there, or
    not told what they take and give. Raises what `execute` raises."""
    best: dict[str, float] = {}
    for name, (path, op_type) in files.items():
        job = SessionJob(model=path, loader=loader, threads=threads, seconds=SESSION_S, operators=True)
        counted = [timing for timing in execute(job).op_timings if timing.op_type == op_type and timing.median_us > 0]
        best[name] = max((_work(timing) / timing.median_us * 1e6 for timing in counted), default=0.0)
        if not best[name]:
            return None
    return Roofs(
        fp32_multiply_adds_per_s=best["fp32"],
        int8_multiply_adds_per_s=best["int8"],
        memory_bytes_per_s=best["memory"],
        cache_bytes_per_s=best["cache"],
    )


def _work(timing: OpTiming) -> int:
    return (multiply_adds(timing) if multiplies(timing.op_type) else timing.bytes) or 0


def integer(op_type: str) -> bool:
    """Whether an operator multiplies integers."""
    return op_type.startswith("Q") or "Integer" in op_type


def placed(timing: OpTiming, roofs: Roofs) -> Placed | None:
    """An operator beside the roofs; None where its arithmetic or its bytes are not known, or its time is below what the
    runtime's clock tells."""
    work = multiply_adds(timing)
    if work is None or not timing.bytes or timing.median_us <= 0:
        return None
    peak = roofs.int8_multiply_adds_per_s if integer(timing.op_type) else roofs.fp32_multiply_adds_per_s
    allowed_s = max(work / peak, timing.bytes / roofs.cache_bytes_per_s)
    return Placed(timing, work, timing.bytes, allowed_s * 1e6)
