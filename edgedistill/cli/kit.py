"""`edgedistill kit`: a ready project around what a build made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import KitResult


def kit(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of a build, or its package.")],
    platform: Annotated[str, typer.Option(metavar="ios|android|web|python", help="What the app runs on.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The new folder; by default kit-PLATFORM beside the package.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a ready project around the model: an app that classifies pictures, with a self-test by the golden pictures."""
    import edgedistill as api
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        found = api.kit(path, platform=platform, out=out)
        render.answer(found, _print, as_json=as_json)


def _print(console: Console, found: KitResult) -> None:
    from edgedistill.cli import render

    render.line(console, f"{found.path}: a project for {found.platform} around {found.file}", style="bold green")
    render.line(console, f"next: cd {found.path} && {found.first_steps}; README.md there says more")
