"""`edgedistill quantize`: the smallest integers that lose no more than allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.options import AsJson, DeviceName, Formats, model_options
from edgedistill.cli.signature import taking

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.cli.render import Listing
    from edgedistill.documents.answers import FormatLadder, QuantizeResult


@taking(model_options)
def quantize(
    data: Annotated[
        str,
        typer.Option(
            metavar="digits|FOLDER", help="Images: its training split calibrates, its validation split judges."
        ),
    ],
    max_loss: Annotated[str, typer.Option(metavar="SHARE", help="Accuracy that may be lost to fp32.")] = "0.5%",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")] = Path("quantized"),
    formats: Formats = "onnx",
    also: Annotated[
        str, typer.Option(metavar="LIST", help="Tried beside int8: fp16, int8-weights, int4-weights; with commas.")
    ] = "fp16",
    device: DeviceName = "",
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Quantise a model to int8, or as much of it as keeps its accuracy: each format by the first rung that does.

    The exit code is 2 where a format has no rung inside the loss that is smaller or faster than fp32, 4 where a device that
    was named does not answer.
    """
    import edgedistill as api
    from edgedistill.base.errors import ExitCode
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            result = api.quantize(
                data=data,
                out=out,
                max_loss=max_loss,
                formats=formats,
                also=also,
                device=device,
                listener=listener,
                **options,
            )
        render.answer(result, print_quantize, out, as_json=as_json)
        if not result.ok:
            raise typer.Exit(int(ExitCode.BAD_INPUT))


def print_quantize(console: Console, result: QuantizeResult, out: Path) -> None:
    """A table of rungs a format, then the files, or the way out."""
    from edgedistill.cli import render
    from edgedistill.commands.quantize import way_out
    from edgedistill.documents.specs import ComputedBy

    for ladder in result.formats:
        if ladder.rungs:
            console.print(_table(ladder, result.metric))
        if ladder.computed_by is ComputedBy.REFERENCE:
            render.line(
                console, f"{result.metric} is computed by the reference interpreter, not by the device", style="dim"
            )
        written = [*([ladder.path] if ladder.path else []), *ladder.paths]
        render.line(console, *(f"wrote {out / name}" for name in written), style="green")
        if ladder.winner is None:
            render.line(console, f"{ladder.format}: {way_out(ladder, result.max_loss)}", style="red")
    render.line(console, *result.notes, style="dim")


def _table(ladder: FormatLadder, metric: str) -> Listing:
    from edgedistill.base.units import format_bytes, format_percent
    from edgedistill.cli import render

    figures = (metric, "loss", "size", "p50")
    table = render.table("rung", *figures, "", title=ladder.format, right=figures, prose=("rung", ""))
    table.add_row(
        "fp32",
        "unknown" if ladder.quality is None else format_percent(ladder.quality, 2),
        "",
        "" if ladder.bytes is None else format_bytes(ladder.bytes),
        "",
        "",
    )
    beside = [(rung, "kept beside") for rung in ladder.beside]
    for rung, good in [*beside, *((rung, "wins") for rung in ladder.rungs)]:
        table.add_row(
            rung.scheme.details,
            "unknown" if rung.quality is None else format_percent(rung.quality, 2),
            "unknown" if rung.loss is None else f"{rung.loss * 100:.2f} points",
            "" if rung.bytes is None else format_bytes(rung.bytes),
            "" if rung.relative_p50 is None else f"{rung.relative_p50:.2f} x fp32",
            good if rung.accepted else rung.reason,
        )
    return table
