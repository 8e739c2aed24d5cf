"""`edgedistill profiles`: the device profiles that latencies can be predicted from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.devices.latency.profiles import ListedProfile, ProfilesResult


def profiles(as_json: AsJson = False) -> None:
    """List the profiles that come with edgedistill and your own, with their error, and a warning where this machine or its
    runtime is another than was measured."""
    import edgedistill as api
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        result = api.profiles()
        render.answer(result, print_profiles, as_json=as_json)


def print_profiles(console: Console, result: ProfilesResult) -> None:
    """A row for each profile, then what warns of using it."""
    from edgedistill.cli import render

    if result.profiles:
        columns = ("target", "device", "runtime", "precisions", "files", "mean error of latency", "measured", "profile")
        rows = [
            (
                entry.target,
                entry.device,
                f"{entry.runtime} {entry.runtime_version}",
                ", ".join(entry.precisions),
                str(entry.rows),
                _errors(entry),
                entry.measured_at[:10],
                "shipped" if entry.shipped else "your own",
            )
            for entry in result.profiles
        ]
        least = ("files", "measured", "runtime", "precisions", "device")
        table = render.table(*columns, right=("files",), whole=("target",), prose=("device",), least=least, rows=rows)
        console.print(table)
        own = [entry for entry in result.profiles if not entry.shipped]
        told = (f"{entry.target} from {entry.measured_at[:10]}: {entry.path}" for entry in own)
        render.line(console, *told, style="dim")
    else:
        render.line(console, "no profiles yet; measure one: edgedistill calibrate --target host")
    differences = [
        f"{entry.target} from {entry.measured_at[:10]}: {difference}"
        for entry in result.profiles
        for difference in entry.differences or ()
    ]
    render.line(console, *(f"warning: {what}" for what in (*differences, *result.problems)), style="yellow")


def _errors(entry: ListedProfile) -> str:
    from edgedistill.base.units import format_percent
    from edgedistill.devices.latency.profile import Quantity

    of = [error for error in entry.errors if error.quantity is Quantity.LATENCY]
    return ", ".join(f"{error.precision} {format_percent(error.mape)}" for error in of) or "unknown"
