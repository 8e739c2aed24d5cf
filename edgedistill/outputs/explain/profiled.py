"""Sentences of a file's profile: which of two files is faster, whether a gate is kept, what changed since the last one."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from edgedistill.base.units import format_ms
from edgedistill.documents.imported import ProgramComparison
from edgedistill.documents.profiled import Comparison, Gate, Since
from edgedistill.outputs.explain.shown import sessions_text


def comparison_sentence(path: str, comparison: Comparison) -> str:
    """`a.onnx is faster than b.onnx: p50 is 0.9 times (0.88 to 0.92), p95 0.91 times the other's`."""
    beside = "" if comparison.p95_ratio is None else f", p95 {comparison.p95_ratio:.3f} times"
    found = Ratio("p50", comparison.p50_ratio, comparison.interval, told=comparison.told)
    return _comparison(path, comparison.other, found, beside)


def program_comparison_sentence(path: str, comparison: ProgramComparison) -> str:
    """`a.tflite is slower than b.tflite: the mean is 1.2 times (1.1 to 1.3) the other's`."""
    figure = "p50" if comparison.of == "p50" else "the mean"
    return _comparison(
        path, comparison.other, Ratio(figure, comparison.ratio, comparison.interval, told=comparison.told)
    )


@dataclass(frozen=True)
class Ratio:
    """Of a `figure` of two files, with its interval; `told`: whether that leaves no doubt."""

    figure: str
    value: float
    interval: tuple[float, float] | None
    told: bool


def _comparison(path: str, other: str, found: Ratio, beside: str = "") -> str:
    names = Path(path).name, Path(other).name
    if names[0] == names[1]:
        names = path, other
    spread = "" if found.interval is None else f" ({found.interval[0]:.3f} to {found.interval[1]:.3f})"
    verdict = "is faster than" if found.value < 1 else "is slower than"
    if not found.told:
        verdict = "may be as fast as" if found.interval else "was measured once beside"
    return f"{names[0]} {verdict} {names[1]}: {found.figure} is {found.value:.3f} times{spread}{beside} the other's"


def gate_sentence(gate: Gate) -> str:
    """`gate 5 ms@p95: kept by all 3 sessions`."""
    sessions = sessions_text(len(gate.values))
    return f"gate {gate.limit}: {'kept by all' if gate.kept else f'{gate.over} over it, of'} {sessions}"


def since_sentence(since: Since) -> str:
    """`since 2026-01-02 03:04 UTC: p50 is 1.05 times (1.01 to 1.09) what it was, 0.93 ms; not in turn, ...`."""
    then = f"{since.last.measured_at[:16].replace('T', ' ')} UTC"
    spread = "" if since.interval is None else f" ({since.interval[0]:.3f} to {since.interval[1]:.3f})"
    changed = f"; {'; '.join(since.environment)}" if since.environment else ""
    before_ms = statistics.geometric_mean(since.last.p50_ms)
    return (
        f"since {then}: p50 is {since.p50_ratio:.3f} times{spread} what it was, {format_ms(before_ms)}, p95 "
        f"{since.p95_ratio:.3f} times; the two did not run in turn{changed}"
    )
