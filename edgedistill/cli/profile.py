"""`edgedistill profile`: the latency of any ONNX, LiteRT or ExecuTorch file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import AsJson, DeviceName, MeasuredOn

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.results import ProfileResult

OPERATORS_SHOWN = 10


def profile(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The model to measure, at batch 1: .onnx, .tflite or .pte.")
    ],
    target: MeasuredOn = "host",
    device: DeviceName = "",
    sessions: Annotated[int, typer.Option(min=1, max=20, metavar="N", help="Measuring processes.")] = 3,
    beside: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another file of the same format, to run in turn with this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure an ONNX, LiteRT or ExecuTorch file: p50, p95, p99, load time, memory, and the operators that cost most."""
    import edgedistill as api
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            result = api.profile(
                path, target=target, device=device, sessions=sessions, beside=beside, listener=listener
            )
        render.answer(result, print_profile, as_json=as_json)


def print_profile(console: Console, result: ProfileResult) -> None:
    """Latency, memory and the dearest operators of a measured file."""
    from edgedistill.base.units import format_bytes, format_ms
    from edgedistill.cli import render
    from edgedistill.documents.measurements import MeasuredLatency, UnknownLatency
    from edgedistill.documents.specs import Percentile

    render.line(console, result.path, style="bold")
    table = render.table("size", "p50", "p95", "p99", "load", "peak memory")
    table.add_row(
        format_bytes(result.bytes),
        *render.latency_cells(result.latency),
        "unknown" if result.load_ms is None else format_ms(result.load_ms),
        "unknown" if result.peak_memory_bytes is None else format_bytes(result.peak_memory_bytes),
    )
    console.print(table)
    if isinstance(result.latency, UnknownLatency):
        render.line(console, f"latency unknown: {result.latency.reason}")
    if isinstance(result.latency, MeasuredLatency):
        taken = f"{result.latency.samples:,} runs in {render.sessions_cell(result.latency)}"
        render.line(console, f"{taken} on {result.latency.device}", style="dim")
        if (relative := result.latency.relative) is not None:
            tail = "" if Percentile.P95 in relative.by_median else f", p95 {relative.p95:.3f}"
            render.line(console, f"p50 {relative.p50:.3f}{tail} times that of {result.beside}, in turn with it")
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
