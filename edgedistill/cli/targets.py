"""`edgedistill targets`: the devices that can be built for, all facts of one, a file for another, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.base.errors import ExitCode
from edgedistill.cli.completion import complete_target
from edgedistill.cli.options import AsJson, DeviceName

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import TargetsCheck
    from edgedistill.documents.specs import CoreGroup, Target


app = typer.Typer()


@app.callback(invoke_without_command=True)
def root(context: typer.Context, as_json: AsJson = False) -> None:
    """List the devices that can be built for."""
    if context.invoked_subcommand is not None:
        return
    from edgedistill.cli import errors, render
    from edgedistill.documents.targets import all_targets

    with errors.answering(as_json=as_json):
        found = all_targets()
        if as_json:
            render.write_json(json.dumps([target.model_dump(mode="json") for target in found]))
        else:
            _print_all(render.results(), found)


@app.command("show", epilog="Example: edgedistill targets show raspberry-pi-5")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH.toml", autocompletion=complete_target, help="The target.")],
    as_json: AsJson = False,
) -> None:
    """Show all facts of a target, each with its source, and how to measure on it."""
    from edgedistill.cli import errors, render
    from edgedistill.documents.targets import load_target, target_file

    with errors.answering(as_json=as_json):
        render.answer(load_target(name), _print_one, target_file(name), as_json=as_json)


@app.command("new", epilog="Example: edgedistill targets new my-board --device ssh://pi@board.local")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the target is called; the file is NAME.toml.")],
    like: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH.toml", autocompletion=complete_target, help="Runtime, formats and precisions as for it."
        ),
    ] = "host",
    device: DeviceName = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the file goes.", show_default="NAME.toml")
    ] = None,
) -> None:
    """Write a target file for this machine, or for a device elsewhere, which is asked what it is."""
    from edgedistill.cli import errors, live, render
    from edgedistill.commands.targets import new_target

    with errors.answering(as_json=False):
        with live.watching() as listener:
            path = new_target(name, like=like, device=device, out=out, listener=listener)
        shown = path if path.is_absolute() or path.parent != Path() else f"./{path}"
        render.line(render.results(), f"{path} is written; build for it with --target {shown}")


@app.command("check", epilog="Example: edgedistill targets check ./my-board.toml")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|PATH.toml]...", help="The targets; all that come with edgedistill unless given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See that target files can be read, have a source for each fact, and fit together.

    Exit codes: 0 nothing is wrong, 2 something is.
    """
    from edgedistill.cli import errors, render
    from edgedistill.commands.targets import check_targets

    with errors.answering(as_json=as_json):
        found = check_targets(tuple(names or ()))
        render.answer(found, _print_check, as_json=as_json)
        if not found.ok:
            raise typer.Exit(int(ExitCode.BAD_INPUT))


def _print_all(console: Console, found: tuple[Target, ...]) -> None:
    from edgedistill.cli import render

    rows = [
        (
            target.name,
            target.title,
            target.runtime,
            ", ".join(target.formats),
            ", ".join(target.precisions),
            reached_by(target),
        )
        for target in found
    ]
    columns = ("target", "device", "runtime", "makes", "precisions", "reached by")
    least = ("reached by", "precisions", "runtime", "makes")
    console.print(render.table(*columns, whole=("target",), prose=("device",), least=least, rows=rows))
    render.line(
        console, "one in full: edgedistill targets show NAME; one of yours: edgedistill targets new", style="dim"
    )


def _print_check(console: Console, found: TargetsCheck) -> None:
    from edgedistill.cli import render

    for target in found.targets:
        if target.problems:
            render.line(console, target.name, style="bold")
            render.line(console, *(f"  {problem}" for problem in target.problems))
    wrong = sum(bool(target.problems) for target in found.targets)
    count = f"{len(found.targets)} target{'s' * (len(found.targets) != 1)}"
    render.line(console, f"{count}: {f'{wrong} with problems' if wrong else 'nothing is wrong'}")


def _print_one(console: Console, target: Target, file: Path) -> None:
    from edgedistill.base.units import format_bytes, format_ms
    from edgedistill.cli import render

    render.line(console, f"{target.name}: {target.title}", style="bold")
    rows: list[tuple[str, str | None]] = [
        ("runtime", target.runtime),
        ("makes", ", ".join(target.formats)),
        ("precisions", ", ".join(target.precisions)),
        ("threads", str(target.threads)),
        ("reached by", reached_by(target)),
        ("file", str(file)),
        ("cores", ", ".join(map(_cores, target.cores)) or None),
        ("computed by", target.accelerator or None),
        ("memory", None if target.memory_bytes is None else format_bytes(target.memory_bytes)),
        ("machine", target.machine),
        ("capabilities", ", ".join(f"{c / 10:.1f}" for c in target.compute_capabilities) or None),
    ]
    render.facts(console, [(name, value) for name, value in rows if value is not None])
    if target.published:
        published = [
            (row.model, row.precision, f"{row.multiply_adds / 1e9:g} G", format_ms(row.latency_ms), row.source)
            for row in target.published
        ]
        columns = ("model", "precision", "multiply-adds", "latency", "source")
        title = "published by others (evidence, not proof)"
        console.print(render.table(*columns, title=title, whole=("model",), prose=("source",), rows=published))
    if target.how_to_measure:
        render.line(console, "how to measure", style="bold")
        render.line(console, target.how_to_measure.strip())
    if target.sources:
        render.line(console, "sources", style="bold")
        render.line(console, *(f"  {fact}: {source}" for fact, source in target.sources.items()))


def _cores(group: CoreGroup) -> str:
    clock = f" at {group.max_mhz / 1000:g} GHz" if group.max_mhz else ""
    return f"{group.count} {group.name}{clock}"


def reached_by(target: Target) -> str:
    """How a build gets to the device, in words."""
    return {
        "local": "this machine",
        "browser": "a browser on this machine",
        "ssh": "SSH",
        "adb": "Android Debug Bridge",
        "none": "by hand",
    }[target.transport]
