"""`edgedistill profile`: the latency of any ONNX, LiteRT or ExecuTorch file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.base.errors import ExitCode
from edgedistill.cli.options import AsJson, DeviceName, MeasuredOn

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.profiled import Comparison, Gate, ProfileResult

OPERATORS_SHOWN = 10


def profile(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The model to measure, at batch 1: .onnx, .tflite or .pte.")
    ],
    target: MeasuredOn = "host",
    device: DeviceName = "",
    sessions: Annotated[int, typer.Option(min=1, max=20, metavar="N", help="Measuring processes.")] = 3,
    compare: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Say which is faster: a file of the same format, run in turn.")
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            metavar="5ms[@p95]|105%[@p95]", help="Exit 3 unless each session keeps it; a share is of --compare."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure an ONNX, LiteRT or ExecuTorch file: p50, p95, p99, load time, memory, and the operators that cost most.

    Exit codes: 0 measured, 2 bad input, 3 the gate is not kept, 4 device unreachable.
    """
    import edgedistill as api
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            result = api.profile(
                path,
                target=target,
                device=device,
                sessions=sessions,
                compare=compare,
                gate=gate,
                listener=listener,
            )
        render.answer(result, print_profile, as_json=as_json)
        if result.gate is not None and not result.gate.kept:
            raise typer.Exit(int(ExitCode.BUDGET_NOT_MET))


def print_profile(console: Console, result: ProfileResult) -> None:
    """Latency, memory and the dearest operators of a measured file."""
    from edgedistill.base.units import format_bytes, format_ms
    from edgedistill.cli import render
    from edgedistill.documents.measurements import MeasuredLatency, UnknownLatency

    render.line(console, result.path, style="bold")
    table = render.table("size", "p50", "p95", "p99", "load", "first run", "peak memory")
    table.add_row(
        format_bytes(result.bytes),
        *render.latency_cells(result.latency),
        "unknown" if result.load_ms is None else format_ms(result.load_ms),
        "unknown" if result.first_run_ms is None else format_ms(result.first_run_ms),
        "unknown" if result.peak_memory_bytes is None else format_bytes(result.peak_memory_bytes),
    )
    console.print(table)
    if isinstance(result.latency, UnknownLatency):
        render.line(console, f"latency unknown: {result.latency.reason}")
    if isinstance(result.latency, MeasuredLatency):
        taken = f"{result.latency.samples:,} runs in {render.sessions_cell(result.latency)}"
        render.line(console, f"{taken} on {result.latency.device}", style="dim")
    if result.comparison is not None:
        render.line(console, _compared(result.path, result.comparison), style="bold")
    if result.gate is not None:
        render.line(console, _gated(result.gate), style="bold green" if result.gate.kept else "bold red")
    if (environment := result.environment) is not None:
        pinned = f", pinned to CPU {', '.join(map(str, environment.pinned_cpus))}" if environment.pinned_cpus else ""
        render.line(
            console,
            f"{environment.runtime} {environment.runtime_version}, {environment.provider}, {environment.threads} "
            f"thread{'s' * (environment.threads > 1)}{pinned}; {environment.cpu}, {environment.os}",
            style="dim",
        )
    if result.op_timings:
        total_us = sum(timing.median_us for timing in result.op_timings)
        dearest = sorted(result.op_timings, key=lambda timing: timing.median_us, reverse=True)[:OPERATORS_SHOWN]
        rows = [
            (
                timing.name,
                timing.op_type,
                format_ms(timing.median_us / 1000),
                f"{timing.median_us / total_us:.0%}" if total_us else "",
            )
            for timing in dearest
        ]
        title = "operators, the dearest first"
        columns = ("operator", "type", "median", "share")
        console.print(render.table(*columns, title=title, prose=("operator",), rows=rows))
    render.line(console, *result.notes)


def _compared(path: str, comparison: Comparison) -> str:
    """`a.onnx is faster than b.onnx: ...`."""
    names = Path(path).name, Path(comparison.other).name
    if names[0] == names[1]:
        names = path, comparison.other
    figures = f"p50 is {comparison.p50_ratio:.3f} times"
    if comparison.interval is not None:
        low, high = comparison.interval
        figures += f" ({low:.3f} to {high:.3f})"
    if comparison.p95_ratio is not None:
        figures += f", p95 {comparison.p95_ratio:.3f} times"
    verdict = "is faster than" if comparison.p50_ratio < 1 else "is slower than"
    if not comparison.told:
        verdict = "may be as fast as" if comparison.interval else "was measured once beside"
    return f"{names[0]} {verdict} {names[1]}: {figures} the other's"


def _gated(gate: Gate) -> str:
    sessions = f"{len(gate.values)} session{'s' * (len(gate.values) != 1)}"
    return f"gate {gate.limit}: {'kept by all' if gate.kept else f'{gate.over} over it, of'} {sessions}"
