"""`edgedistill calibrate`: a latency model of a device, from a few measured students."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import DeviceName, MeasuredOn

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.devices.latency.profile import DeviceProfile


def calibrate(
    target: MeasuredOn = "host",
    device: DeviceName = "",
    models: Annotated[int, typer.Option(metavar="N", help="Students to measure.")] = 20,
    family: Annotated[
        str, typer.Option(metavar="LIST", help="Families to choose from, with commas.", show_default="a build's")
    ] = "",
    resolution: Annotated[
        str,
        typer.Option(metavar="LIST", help="Sides of their inputs in pixels, with commas.", show_default="32 to 224"),
    ] = "",
    precision: Annotated[
        str, typer.Option(metavar="LIST", help="fp32, fp16, int8 and others, with commas.", show_default="the target's")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the profile goes.", show_default="your data folder"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the profile on stdout and nothing else there.")
    ] = False,
) -> None:
    """Measure a few students with random weights that tell most about all the others, and keep what predicts those.

    Needs no data: int8 is calibrated on synthetic images, which changes no latency. A calibration that was stopped goes on
    when the same command is run again.
    """
    import edgedistill as api
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json, resumable=True):
        with live.watching() as listener:
            profile = api.calibrate(
                target,
                device=device,
                models=models,
                families=family,
                resolutions=resolution,
                precisions=precision,
                out=out,
                listener=listener,
            )
        render.answer(profile, print_calibration, target, out, as_json=as_json)


def print_calibration(console: Console, profile: DeviceProfile, target: str, out: Path | None) -> None:
    """How well the models predict what they did not see, what it cost, and where the profile is: in `out`, or among the
    user's own."""
    from edgedistill.base.units import format_percent, format_seconds
    from edgedistill.cli import render
    from edgedistill.devices.latency.law import CALIBRATED_ROWS
    from edgedistill.devices.latency.profiles import own_path
    from edgedistill.documents.targets import load_target

    figures = ("models", "median error", "mean error", "within 10%", "inside the interval")
    title = "each model predicted from the others"
    rows = [
        (
            error.precision,
            error.quantity,
            str(error.rows),
            format_percent(error.median_error),
            format_percent(error.mape),
            format_percent(error.within_10, 0),
            format_percent(error.coverage, 0),
        )
        for error in profile.errors
    ]
    console.print(render.table("precision", "predicted", *figures, title=title, right=figures, rows=rows))
    if any(error.rows < CALIBRATED_ROWS for error in profile.errors):
        render.line(console, f"uncalibrated: intervals are conformal from {CALIBRATED_ROWS} models on", style="yellow")
    where, threads = profile.environment, f"{profile.threads} thread" + "s" * (profile.threads > 1)
    render.line(console, f"{where.device}, {where.runtime} {where.runtime_version}, {threads}", style="dim")
    render.line(console, *profile.notes, style="dim")
    students = len({row.spec for row in profile.rows})
    again = f", {profile.reused} steps of an earlier run reused" if profile.reused else ""
    render.line(console, f"{students} models, {len(profile.rows)} files in {format_seconds(profile.seconds)}{again}")
    render.line(console, f"profile {out or own_path(load_target(target), profile.precisions)}")
