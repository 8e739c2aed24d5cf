"""`edgedistill report`: the report of a finished build, drawn again."""

from __future__ import annotations

from typing import Annotated

import typer

from edgedistill.cli.options import BuildOutput


def report(
    out: BuildOutput,
    open_it: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Draw OUT/report.html again from OUT/build.json and its profiles."""
    from edgedistill.cli import errors, render
    from edgedistill.outputs.explain.build_folder import build_folder
    from edgedistill.outputs.report.html import write_report

    with errors.answering():
        folder = build_folder(out)
        write_report(folder)
        written = folder / "report.html"
        render.line(render.results(), str(written))
        if open_it:
            typer.launch(written.absolute().as_uri())
