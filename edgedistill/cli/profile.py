"""`edgedistill profile`: the latency of any ONNX, LiteRT or ExecuTorch file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.base.errors import ExitCode
from edgedistill.cli.options import AsJson, DeviceName, MeasuredOn
from edgedistill.cli.signature import taking

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.imported import ByProgram
    from edgedistill.documents.profiled import ProfileResult

OPERATORS_SHOWN = 10


def profile_options(
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
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with every session, every operator and a roofline."),
    ] = None,
) -> None:
    """What `profile` is given."""


@taking(profile_options)
def profile(as_json: AsJson = False, **options: Any) -> None:
    """Measure an ONNX, LiteRT or ExecuTorch file: p50, p95, p99, load time, memory, the operators that cost most, and what
    changed since the last time on the same device.

    Exit codes: 0 measured, 2 bad input, 3 the gate is not kept, 4 device unreachable.
    """
    import edgedistill as api
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            result = api.profile(listener=listener, **options)
        render.answer(result, print_profile, as_json=as_json)
        if result.gate is not None and not result.gate.kept:
            raise typer.Exit(int(ExitCode.BUDGET_NOT_MET))


def print_profile(console: Console, result: ProfileResult) -> None:
    """Latency, memory and the dearest operators of a measured file."""
    from edgedistill.base.units import format_bytes, format_ms
    from edgedistill.cli import render
    from edgedistill.documents.measurements import MeasuredLatency, UnknownLatency
    from edgedistill.outputs.explain import profiled

    render.line(console, result.path, style="bold")
    # What a vendor's program told has a table of its own.
    percentiles = () if result.by_program else ("p50", "p95", "p99")
    table = render.table("size", *percentiles, "load", "first run", "peak memory")
    table.add_row(
        format_bytes(result.bytes),
        *(render.latency_cells(result.latency) if percentiles else ()),
        "unknown" if result.load_ms is None else format_ms(result.load_ms),
        "unknown" if result.first_run_ms is None else format_ms(result.first_run_ms),
        "unknown" if result.peak_memory_bytes is None else format_bytes(result.peak_memory_bytes),
    )
    console.print(table)
    if result.picture_to_label_ms is not None:
        told = format_ms(result.picture_to_label_ms)
        render.line(console, f"from a decoded picture of 640 x 480 to its label: {told}")
    if isinstance(result.latency, UnknownLatency) and result.by_program is None:
        render.line(console, f"latency unknown: {result.latency.reason}")
    if result.by_program is not None:
        _print_program(console, result.path, result.by_program)
    if isinstance(result.latency, MeasuredLatency):
        taken = f"{result.latency.samples:,} runs in {render.sessions_cell(result.latency)}"
        render.line(console, f"{taken} on {result.latency.device}", style="dim")
    if result.comparison is not None:
        render.line(console, profiled.comparison_sentence(result.path, result.comparison), style="bold")
    if result.gate is not None:
        render.line(
            console, profiled.gate_sentence(result.gate), style="bold green" if result.gate.kept else "bold red"
        )
    if result.since is not None:
        render.line(console, profiled.since_sentence(result.since))
    if (environment := result.environment) is not None:
        pinned = f", pinned to CPU {', '.join(map(str, environment.pinned_cpus))}" if environment.pinned_cpus else ""
        render.line(
            console,
            f"{environment.runtime} {environment.runtime_version}, {environment.provider}, {environment.threads} "
            f"thread{'s' * (environment.threads > 1)}{pinned}; {environment.cpu}, {environment.os}",
            style="dim",
        )
    if result.fallbacks is not None:
        render.line(console, result.fallbacks.sentence, style="dim")
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
    if result.report is not None:
        render.line(console, f"report: {result.report}")


def _print_program(console: Console, path: str, found: ByProgram) -> None:
    """What a vendor's program told, with the spread over its runs."""
    from edgedistill.base.units import format_ms
    from edgedistill.cli import render
    from edgedistill.outputs.explain.profiled import program_comparison_sentence

    table = render.table(f"by {found.program}", "over its runs", "95% interval")
    for name in ("p50", "p95", "p99", "mean"):
        told = getattr(found, name)
        interval = told and told.interval_ms
        table.add_row(
            name,
            format_ms(told.value_ms) if told else "unknown",
            f"{format_ms(interval[0])} to {format_ms(interval[1])}" if interval else "",
        )
    console.print(table)
    each = [figures.runs for figures in found.sessions if figures.runs]
    inferences = f", {sum(each):,} inferences" if len(each) == len(found.sessions) else ""
    render.line(console, f"{len(found.sessions)} runs of the program{inferences}", style="dim")
    if found.comparison is not None:
        render.line(console, program_comparison_sentence(path, found.comparison), style="bold")
