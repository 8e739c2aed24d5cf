"""`edgedistill package`: packages that builds made, checked before they ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedistill as api
from edgedistill.cli.options import AsJson, TargetName, help_without_command

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import PackageVerifyResult

app = typer.Typer()


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Check the package of a build before an app ships it."""
    help_without_command(context)


@app.command("verify", epilog="Example: edgedistill package verify out/package")
def verify(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="The package, or the output folder of its build.")],
    target: TargetName = "host",
    as_json: AsJson = False,
) -> None:
    """Check that a package is whole: every file by its hash, what its documents say beside what the model files carry, and
    the outputs of each model file for the golden pictures."""
    from edgedistill.base.errors import ExitCode
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        found = api.verify_package(path, target=target)
        render.answer(found, _print, as_json=as_json)
        if not found.ok:
            raise typer.Exit(int(ExitCode.BAD_INPUT))


def _print(console: Console, found: PackageVerifyResult) -> None:
    from edgedistill.cli import render

    style = "bold green" if found.ok else "bold red"
    render.line(console, f"{found.path}: {'ok' if found.ok else 'NOT ok'}, {found.files} files", style=style)
    render.line(console, *(f"! {failure}" for failure in found.failures), style="red")
    render.line(console, *(f"- {check}" for check in found.checks))
    for one in found.verified:
        said = f"not run: {one.not_run}" if one.not_run else one.parity.sentence if one.parity else "read, not compared"
        render.line(console, f"- {Path(one.path).name}: {said}")
