"""`edgedistill export`: one model as files of several formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.options import AsJson, Formats, model_options
from edgedistill.cli.signature import taking

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import ExportResult


@taking(model_options)
def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")],
    formats: Formats = "onnx",
    precision: Annotated[str, typer.Option(metavar="LIST", help="fp32, fp16, int8 and others, with commas.")] = "fp32",
    data: Annotated[
        str | None, typer.Option(metavar="digits|FOLDER", help="Images that int8 is calibrated on.")
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not run the files for parity.")] = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Export a model to one or more formats, each file run and compared with the model.

    Files that fail are listed with cause and fix and cost the others nothing; the exit code is then 2.
    """
    import edgedistill as api
    from edgedistill.base.errors import ExitCode
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            result = api.export(
                out=out,
                formats=formats,
                precisions=precision,
                data=data,
                verify=not no_verify,
                listener=listener,
                **options,
            )
        render.answer(result, print_export, out, as_json=as_json)
        if result.failures:
            raise typer.Exit(int(ExitCode.BAD_INPUT))


def print_export(console: Console, result: ExportResult, out: Path) -> None:
    """The files with size and parity, then what failed and why."""
    from edgedistill.base.units import format_bytes
    from edgedistill.cli import render
    from edgedistill.documents.specs import ComputedBy

    agreement = next((file.parity.measure for file in result.files if file.parity), "same class")
    columns = ("file", "format", "precision", "size", "largest error", agreement, "computed by", "time")
    least = ("format", "precision", "time", "size", agreement)
    table = render.table(*columns, whole=("file",), prose=("computed by",), least=least)
    for file in result.files:
        parity = file.parity
        by = "reference interpreter" if file.computed_by is ComputedBy.REFERENCE else "its runtime"
        table.add_row(
            file.path,
            file.format,
            file.precision,
            format_bytes(file.bytes),
            f"{parity.max_abs_error:.2g}" if parity else "unknown",
            parity.agreement if parity else "unknown",
            by if parity else "not run here",
            f"{file.seconds_conversion:.1f} s",
        )
    if result.files:
        console.print(table)
        render.line(console, f"files in {out}", style="dim")
    for file in result.files:
        if file.not_run:
            render.line(console, f"{file.path}: not run: {file.not_run}", style="dim")
        before = "  " if file.not_run else f"{file.path}: "
        render.line(console, *(before + check for check in render.besides(file.checks, file.not_run)), style="dim")
        if file.fallbacks is not None and file.fallbacks.elsewhere:
            render.line(console, f"{file.path}: {file.fallbacks.sentence}", style="dim")
    for failure in result.failures:
        render.line(console, f"{failure.format} {failure.precision} failed: {failure.cause}", style="red")
        render.line(console, *(f"  {problem}" for problem in failure.problems))
        if failure.fix:
            render.line(console, f"  fix: {failure.fix}", style="green")
    render.line(console, *result.notes, style="dim")
