"""`edgedistill devices`: which devices answer, and whether one can be measured on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.base.errors import ExitCode
from edgedistill.cli.completion import complete_target
from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import DeviceCheck, DeviceList

app = typer.Typer()
_PRESETS = {
    "android-arm64": "ANDROID_NDK_HOME names the NDK; -D ONNXRUNTIME_INCLUDE=DIR the headers of ONNX Runtime's release",
    "linux-arm64": "with g++-aarch64-linux-gnu",
    "linux": "for this machine's architecture",
}


@app.callback(invoke_without_command=True)
def root(context: typer.Context, as_json: AsJson = False) -> None:
    """List this machine, the devices of your devices.toml and phones that adb knows, and which of them answer."""
    if context.invoked_subcommand is not None:
        return
    from edgedistill.cli import errors, live, render
    from edgedistill.commands.devices import list_devices

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            found = list_devices(listener=listener)
        render.answer(found, print_list, as_json=as_json)


@app.command("check", epilog="Example: edgedistill devices check ssh://pi@board.local")
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|ADDRESS",
            help="In your devices.toml, ssh://USER@HOST, adb://SERIAL, or a target on this machine, as host or browser.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH.toml", autocompletion=complete_target, help="What it is used as.", show_default="its own"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a small model on a device from end to end, with each runtime, and say what is missing.

    Exit codes: 0 ready, 2 bad input, 4 not reached or not ready.
    """
    from edgedistill.cli import errors, live, render
    from edgedistill.commands.devices import check_device

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            found = check_device(name, target=target, listener=listener)
        render.answer(found, print_check, as_json=as_json)
        if not found.ready:
            raise typer.Exit(int(ExitCode.UNREACHABLE))


@app.command("runner", epilog="Example: edgedistill devices runner runner-sources")
def runner(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the sources.")],
) -> None:
    """Write the sources of the program that measures where there is no Python: Android, small boards.

    It is built with CMake, by the NDK or any compiler for the device, and needs the headers of ONNX Runtime.
    """
    from edgedistill.cli import errors, render
    from edgedistill.commands.devices import runner_sources

    with errors.answering(as_json=False):
        folder = runner_sources(out)
        console = render.results()
        render.line(console, f"{folder} has the sources. To build them, there:")
        for preset, what in _PRESETS.items():
            render.line(console, f"  cmake --preset {preset} && cmake --build build/{preset}", f"    # {what}")
        render.line(
            console, "Then name build/PRESET/edgedistill-runner and ONNX Runtime's library in your devices.toml:"
        )
        render.line(console, '  runner = "..."', '  library = "..."')


def print_list(console: Console, found: DeviceList) -> None:
    """A line for each device, then what brings those that do not answer."""
    from rich.text import Text

    from edgedistill.cli import render

    rows = [
        (
            device.name,
            Text("yes", style="green") if device.answers else Text("no", style="yellow"),
            device.target or "-",
            ", ".join(device.facts[fact] for fact in ("device", "machine", "system"))
            if device.answers
            else device.problem,
        )
        for device in found.devices
    ]
    columns = ("device", "answers", "target", "what")
    console.print(render.table(*columns, whole=("device", "target"), prose=("what",), rows=rows))
    for device in found.devices:
        if device.fix:
            render.line(console, f"{device.name}: {device.fix}")
    render.line(console, f"your devices are in {found.file}", "try one: edgedistill devices check NAME", style="dim")


def print_check(console: Console, found: DeviceCheck) -> None:
    """What was tried, one thing a line, and the verdict."""
    from rich.text import Text

    from edgedistill.cli import render

    if found.facts:
        render.facts(console, list(found.facts.items()))
    rows = [
        (
            step.name,
            Text("yes", style="green") if step.ok else Text("no", style="red" if step.needed else "yellow"),
            step.detail,
        )
        for step in found.steps
    ]
    console.print(render.table("tried", "works", "what", whole=("tried",), prose=("what",), rows=rows))
    for step in found.steps:
        if step.fix:
            render.line(console, f"{step.name}: {step.fix}")
    as_what = f" as {found.target}" if found.target else ""
    verdict = f"{found.name} is ready{as_what}" if found.ready else f"{found.name} is not ready{as_what}"
    render.line(console, verdict, style="bold green" if found.ready else "bold red")
