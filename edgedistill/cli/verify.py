"""`edgedistill verify`: whether a model file is whole and computes what it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import AsJson, ModelFile, TargetName

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import VerifyResult


def verify(
    path: ModelFile,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Another file of the same model, of any format, to compare with."),
    ] = None,
    target: TargetName = "host",
    as_json: AsJson = False,
) -> None:
    """Check a model file and run it: against its package's hash and golden data, or against another file."""
    import edgedistill as api
    from edgedistill.base.errors import ExitCode
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        result = api.verify(path, against=against, target=target)
        render.answer(result, _print, as_json=as_json)
        if not result.ok:
            raise typer.Exit(int(ExitCode.BAD_INPUT))


def _print(console: Console, result: VerifyResult) -> None:
    from edgedistill.cli import render
    from edgedistill.documents.specs import ComputedBy

    found = "NOT ok" if not result.ok else "ok as far as it can be read here" if result.not_run else "ok"
    render.line(console, f"{result.path}: {found}", style="bold green" if result.ok else "bold red")
    render.line(console, *(f"! {failure}" for failure in result.failures), style="red")
    render.line(console, *(f"- {check}" for check in render.besides(result.checks, result.not_run)))
    if result.parity is not None:
        render.line(console, f"- {result.parity.sentence}")
    if result.not_run:
        render.line(console, f"- not run: {result.not_run}")
    elif result.computed_by is ComputedBy.REFERENCE:
        render.line(console, "- computed by the reference interpreter, not by the device")
