"""How a command ends: an error in words or as JSON, an interruption, and the exit code of each."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.text import Text

from edgedistill.base.errors import EdgedistillError, ExitCode, KeysDifferError, Problem, printable
from edgedistill.cli import render

_KEYS_SHOWN = 8
"""Of a checkpoint of another model; the JSON document has them all."""


@contextlib.contextmanager
def answering(*, as_json: bool = False, resumable: bool = False) -> Iterator[None]:
    """Run a command's body. A user's error is shown in words on stderr and, with `as_json`, as one document on stdout; its
    exit code becomes the process'. So does an interruption, which says with `resumable` that the same command goes on.
    Anything else passes through: it is a bug and keeps its traceback."""
    try:
        yield
    except EdgedistillError as error:
        show_error(error, as_json=as_json)
        raise typer.Exit(int(error.exit_code)) from None
    except KeyboardInterrupt:
        message = "interrupted; run the same command to go on where it stopped" if resumable else "interrupted"
        render.errors().print(Text(message, style="yellow"))
        if as_json:
            render.write_json(_document(message, (), "", ExitCode.INTERRUPTED))
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None


def show_error(error: EdgedistillError, *, as_json: bool = False) -> None:
    """The message, every problem on a line of its own, and the way out. Of a checkpoint that does not fit only some of the
    keys, and the message last: it says more than they do."""
    console = render.errors()
    keys_differ = isinstance(error, KeysDifferError)
    shown = error.problems[:_KEYS_SHOWN] if keys_differ else error.problems
    headline = Text.assemble(("error: ", "bold red"), _indented(error.message))
    if not keys_differ:
        console.print(headline, soft_wrap=True)
    for problem in shown:
        where = (f"{_indented(problem.where)}: ", "bold") if problem.where else ""
        fix = (f" ({_indented(problem.fix)})", "green") if problem.fix else ""
        console.print(Text.assemble("  ", where, _indented(problem.what), fix), soft_wrap=True)
    if len(shown) < len(error.problems):
        render.line(console, f"  and {len(error.problems) - len(shown)} more keys")
    if error.fix:
        first, *rest = error.fix.rstrip().splitlines()
        console.print(Text.assemble(("fix: ", "bold green"), first), soft_wrap=True)
        render.line(console, *(f"     {more}" for more in rest))
    if keys_differ:
        console.print(headline, soft_wrap=True)
    if as_json:
        render.write_json(_document(error.message, error.problems, error.fix, error.exit_code))


def _indented(text: str) -> str:
    """Further lines begin further in: a name out of a foreign file may hold a line's end, and then "fix: ..."."""
    return text.replace("\n", "\n    ")


def show_bug(error: Exception, version: str, *, as_json: bool) -> None:
    """The traceback, and that it is ours."""
    # Printed by Python and not by rich: it must come out whole even where the terminal is the cause.
    with contextlib.suppress(OSError):
        sys.stderr.write(printable("".join(traceback.format_exception(error))))
    message = f"this is a bug in edgedistill {version}, not in what you did; please report it with the lines above"
    render.errors().print(Text(message, style="bold red"), soft_wrap=True)
    if as_json:
        render.write_json(_document(f"internal error: {type(error).__name__}: {error}", (), message, 1))


def _document(message: str, problems: tuple[Problem, ...], fix: str, exit_code: int) -> str:
    listed = [asdict(problem) for problem in problems]
    return json.dumps({"error": {"message": message, "problems": listed, "fix": fix, "exit_code": int(exit_code)}})
