"""Arguments that several commands have."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.completion import complete_target
from edgedistill.errors import ExitCode

ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="A .onnx, .mlpackage, .engine, .tflite or .pte.")]
TargetName = Annotated[
    str, typer.Option(metavar="NAME|PATH.toml", autocompletion=complete_target, help="Device the file is for.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def help_without_command(context: typer.Context) -> None:
    """Shows a group's help on stderr, and ends with the code of wrong use, where none of its commands was named. Typer's own
    `no_args_is_help` shows it on stdout, which belongs to results."""
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):
            typer.echo(context.get_help())  # with rich, typer prints it itself and returns nothing
        raise typer.Exit(int(ExitCode.BAD_INPUT))
