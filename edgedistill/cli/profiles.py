"""`edgedistill profiles`: the device profiles that latencies can be predicted from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.devices.latency.profiles import ListedProfile, ProfilesResult


def profiles(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the profiles that come with edgedistill and your own, with their error, and a warning where this machine or its
    runtime is another than was measured."""
    import edgedistill as api
    from edgedistill.cli import render
    from edgedistill.cli.errors import answering

    with answering(as_json=as_json):
        result = api.profiles()
        if as_json:
            render.write_json(result.model_dump_json())
        else:
            print_profiles(render.results(), result)


def print_profiles(console: Console, result: ProfilesResult) -> None:
    """A row for each profile, then what warns of using it."""
    from edgedistill.cli import render

    if result.profiles:
        columns = ("target", "device", "runtime", "precisions", "files", "mean error of latency", "measured", "profile")
        table = render.table(*columns, right=("files",))
        for entry in result.profiles:
            table.add_row(
                entry.target,
                entry.device,
                f"{entry.runtime} {entry.runtime_version}",
                ", ".join(entry.precisions),
                str(entry.rows),
                _errors(entry),
                entry.measured_at[:10],
                "shipped" if entry.shipped else entry.path,
            )
        console.print(table)
    else:
        render.line(console, "no profiles yet; measure one: edgedistill calibrate --target host")
    for entry in result.profiles:
        for difference in entry.differences or ():
            render.line(console, f"warning: {entry.target} from {entry.measured_at[:10]}: {difference}", style="yellow")
    for problem in result.problems:
        render.line(console, f"warning: {problem}", style="yellow")


def _errors(entry: ListedProfile) -> str:
    from edgedistill.base.units import format_percent
    from edgedistill.devices.latency.profile import Quantity

    of = [error for error in entry.errors if error.quantity is Quantity.LATENCY]
    return ", ".join(f"{error.precision} {format_percent(error.mape)}" for error in of) or "unknown"
