"""`edgedistill evaluate`: accuracy of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import AsJson, ModelFile, TargetName

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import EvaluateResult


def evaluate(
    path: ModelFile,
    data: Annotated[
        str, typer.Option(metavar="digits|FOLDER", help="Images by class, IDX files, or a saved data set.")
    ],
    split: Annotated[str, typer.Option(metavar="train|validation|test", help="Which images.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file of the teacher, where a file is judged by its teacher's neighbours."),
    ] = None,
    target: TargetName = "host",
    as_json: AsJson = False,
) -> None:
    """Run a model file on a data set and print its accuracy, or what it is for in its place."""
    import edgedistill as api
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            result = api.evaluate(
                path, data=data, split=split, limit=limit, against=against, target=target, listener=listener
            )
        render.answer(result, _print, as_json=as_json)


def _print(console: Console, result: EvaluateResult) -> None:
    from edgedistill.base.intervals import wilson_interval
    from edgedistill.base.units import format_percent
    from edgedistill.cli import render
    from edgedistill.documents.specs import ComputedBy

    by = ", by the reference interpreter, not the device" if result.computed_by is ComputedBy.REFERENCE else ""
    low, high = (format_percent(end, 2) for end in wilson_interval(result.quality, result.images))
    quality, images = format_percent(result.quality, 2), f"{result.images} {result.split} images"
    of_classes = f"{quality} of {images} are right"
    told = of_classes if result.metric == "accuracy" else f"{result.metric} {quality} on {images}"
    render.line(console, f"{told} (95% interval {low} to {high}){by}")
