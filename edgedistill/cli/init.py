"""`edgedistill init`: a commented build file from a few answers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.completion import complete_target


def init(
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="File to write, or the folder to write build.toml in.")
    ] = Path("build.toml"),
    data: Annotated[
        str | None, typer.Option(metavar="digits|FOLDER|hf:NAME", help="Where the images come from.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="timm:NAME|module:function", help="The model that students learn from.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH.toml", autocompletion=complete_target, help="The device to build for."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="5ms[@p95]|20%[@p95]", help="The latency to stay within.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing: defaults for what is not given.")] = False,
) -> None:
    """Write a build file. On a terminal it asks for what no option gives; elsewhere it takes the defaults."""
    from edgedistill.base.errors import InputError
    from edgedistill.cli import errors, render
    from edgedistill.commands.init import InitAnswers, data_source, default_teacher, write_build_file
    from edgedistill.documents.specs import BudgetRequest
    from edgedistill.documents.targets import load_target

    with errors.answering():
        if path.is_dir() or path.suffix != ".toml":
            path = path / "build.toml"
        if path.exists() and not force:
            raise InputError(f"{path} is there already", fix="name another file, or overwrite it with --force")
        ask = sys.stdin.isatty() and not yes
        default = InitAnswers()
        data = data or (
            _ask("images (digits, a folder, or hf:NAME)", default.data, data_source) if ask else default.data
        )
        chosen_teacher = teacher or default_teacher(data)
        if ask and teacher is None:
            chosen_teacher = _ask("teacher (timm:NAME or module:function)", chosen_teacher)
        target = target or (_ask("device", default.target, load_target) if ask else default.target)
        budget = budget or (_ask("latency budget", default.budget, BudgetRequest.parse) if ask else default.budget)
        write_build_file(path, InitAnswers(data, chosen_teacher, target, budget), force=force)
        console = render.results()
        render.line(console, f"wrote {path}")
        render.line(console, f"next: edgedistill build {path}", style="bold")


def _ask(question: str, default: str, check: Callable[[str], object] = str) -> str:
    """Ask until `check` accepts the answer."""
    from edgedistill.base.errors import InputError
    from edgedistill.cli.errors import show_error

    while True:
        answer = str(typer.prompt(question, default=default)).strip()
        try:
            check(answer)
        except InputError as error:
            show_error(error)
        else:
            return answer
