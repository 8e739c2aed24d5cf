"""`edgedistill report`: the report of a finished build, drawn again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A build's output folder, or the build.json in it.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Draw OUT/report.html again from OUT/build.json and its profiles."""
    from edgedistill.cli import render
    from edgedistill.cli.errors import answering
    from edgedistill.errors import InputError

    with answering():
        folder = out.parent if out.name == "build.json" else out
        if not (folder / "build.json").is_file():
            inside = folder / "out"
            fix = "give the output folder of a finished build"
            if (inside / "build.json").is_file():
                fix = f"did you mean {inside}?"
            raise InputError(f"{folder} holds no build.json", fix=fix)
        from edgedistill.report.html import write_report

        write_report(folder)
        written = folder / "report.html"
        render.line(render.results(), str(written))
        if open_it:
            typer.launch(written.absolute().as_uri())
