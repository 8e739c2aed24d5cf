"""`edgedistill run`: the classes of one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import AsJson, ModelFile, TargetName

SHOWN = 8
"""Numbers of a vector that are printed."""

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import RunResult


def run(
    path: ModelFile,
    image: Annotated[Path, typer.Option("--input", metavar="IMAGE", help="A picture.")],
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many classes.")] = 5,
    target: TargetName = "host",
    as_json: AsJson = False,
) -> None:
    """Classify a picture with a model file, through the contract that it carries, or give its vector."""
    import edgedistill as api
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        result = api.run(path, image, top=top, target=target)
        render.answer(result, _print, as_json=as_json)


def _print(console: Console, result: RunResult) -> None:
    from edgedistill.base.units import format_percent
    from edgedistill.cli import render
    from edgedistill.documents.specs import ComputedBy

    if result.vector:
        numbers = ", ".join(f"{number:.4f}" for number in result.vector[:SHOWN])
        more = len(result.vector) - SHOWN
        render.line(console, f"vector of {len(result.vector)}: {numbers}" + (f" and {more} more" if more > 0 else ""))
        render.line(console, "all of it: --json", style="dim")
    rows = [(str(guess.index), guess.label, format_percent(guess.probability, 2)) for guess in result.top]
    if result.none_of_these:
        render.line(console, "none of these: no class is probable enough")
    if rows:
        console.print(render.table("class", "label", "probability", right=("class", "probability"), rows=rows))
    if result.computed_by is ComputedBy.REFERENCE:
        render.line(console, "computed by the reference interpreter, not by the device", style="dim")
