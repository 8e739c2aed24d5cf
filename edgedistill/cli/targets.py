"""`edgedistill targets`: the devices that come with edgedistill, or all facts of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.completion import complete_target

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from edgedistill.documents.specs import Target


def targets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|PATH.toml]", autocompletion=complete_target, help="Show everything of this one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the devices that can be built for, or show one with its sources and how to measure on it."""
    import json

    from edgedistill.cli import render
    from edgedistill.cli.errors import answering
    from edgedistill.documents.targets import all_targets, load_target, target_file

    with answering(as_json=as_json):
        if name is None:
            found = all_targets()
            if as_json:
                render.write_json(json.dumps([target.model_dump(mode="json") for target in found]))
            else:
                _print_all(render.results(), found)
            return
        target = load_target(name)
        if as_json:
            render.write_json(target.model_dump_json())
        else:
            _print_one(render.results(), target, target_file(name))


def _print_all(console: Console, found: tuple[Target, ...]) -> None:
    from edgedistill.cli import render

    table = render.table("target", "device", "runtime", "makes", "precisions", "reached by")
    for target in found:
        row = (target.name, target.title, target.runtime, ", ".join(target.formats), ", ".join(target.precisions))
        table.add_row(*row, reached_by(target))
    console.print(table)
    render.line(console, "one in full: edgedistill targets NAME; your own: --target ./my-board.toml", style="dim")


def _print_one(console: Console, target: Target, file: Path) -> None:
    from edgedistill.base.units import format_bytes, format_ms
    from edgedistill.cli import render

    render.line(console, f"{target.name}: {target.title}", style="bold")
    rows: list[tuple[str, str]] = [
        ("runtime", target.runtime),
        ("makes", ", ".join(target.formats)),
        ("precisions", ", ".join(target.precisions)),
        ("threads", str(target.threads)),
        ("reached by", reached_by(target)),
        ("file", str(file)),
    ]
    if target.memory_bytes is not None:
        rows.append(("memory", format_bytes(target.memory_bytes)))
    if target.machine is not None:
        rows.append(("machine", target.machine))
    if target.compute_capabilities:
        rows.append(("capabilities", ", ".join(f"{c / 10:.1f}" for c in target.compute_capabilities)))
    render.facts(console, list(rows))
    if target.published:
        table = render.table(
            "model",
            "precision",
            "multiply-adds",
            "latency",
            "source",
            title="published by others (evidence, not proof)",
        )
        for row in target.published:
            adds = f"{row.multiply_adds / 1e9:g} G"
            table.add_row(row.model, row.precision, adds, format_ms(row.latency_ms), row.source)
        console.print(table)
    if target.how_to_measure:
        render.line(console, "how to measure", style="bold")
        render.line(console, target.how_to_measure.strip())
    if target.sources:
        render.line(console, "sources", style="bold")
        for source in target.sources:
            render.line(console, f"  {source}")


def reached_by(target: Target) -> str:
    """How a build gets to the device, in words."""
    return {
        "local": "this machine",
        "ssh": "SSH",
        "adb": "Android Debug Bridge",
        "coremltools": "coremltools on a Mac",
        "none": "by hand",
    }[target.transport]
