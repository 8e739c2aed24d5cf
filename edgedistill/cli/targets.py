"""`edgedistill targets`: the devices that come with edgedistill, or all facts of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.completion import complete_target
from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from edgedistill.documents.specs import Target


def targets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|PATH.toml]", autocompletion=complete_target, help="Show everything of this one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices that can be built for, or show one with its sources and how to measure on it."""
    from edgedistill.cli import errors, render
    from edgedistill.documents.targets import all_targets, load_target, target_file

    with errors.answering(as_json=as_json):
        if name is None:
            found = all_targets()
            if as_json:
                render.write_json(json.dumps([target.model_dump(mode="json") for target in found]))
            else:
                _print_all(render.results(), found)
            return
        render.answer(load_target(name), _print_one, target_file(name), as_json=as_json)


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
    render.line(console, "one in full: edgedistill targets NAME; your own: --target ./my-board.toml", style="dim")


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
        render.line(console, *(f"  {source}" for source in target.sources))


def reached_by(target: Target) -> str:
    """How a build gets to the device, in words."""
    return {
        "local": "this machine",
        "ssh": "SSH",
        "adb": "Android Debug Bridge",
        "coremltools": "coremltools on a Mac",
        "none": "by hand",
    }[target.transport]
