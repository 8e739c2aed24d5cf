"""`edgedistill build` and `search`: the loop, its progress and its result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import edgedistill as api
from edgedistill.cli.options import DryRun, search_options
from edgedistill.cli.signature import taking


@taking(search_options)
def build(
    no_teacher: Annotated[
        bool, typer.Option("--no-teacher", help="Leave the teacher's file out of the output folder.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print build.json on stdout and nothing else there.")] = False,
    **options: Any,
) -> None:
    """Distil, quantise, export and measure students until one is proven to meet the budget.

    A build that was stopped goes on when the same command is run again. For several targets, each has a folder of its own.

    Exit codes: 0 met (or unmeasured), 2 bad input, 3 budget not met, 4 device unreachable, 130 interrupted.
    """
    from edgedistill.pipeline.build import BUILD

    options["keep_teacher"] = not no_teacher
    _answer(api.build_all, BUILD, options, dry_run=dry_run, as_json=as_json)


@taking(search_options)
def search(
    dry_run: DryRun = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print search.json on stdout and nothing else there.")
    ] = False,
    **options: Any,
) -> None:
    """Find the student that a build would ship, and stop there; a build with the same file and output ships it.

    Several processes with the same --storage and cache share the work; one that is killed loses nothing.

    Exit codes: 0 met (or unmeasured), 2 bad input, 3 budget not met, 4 device unreachable, 130 interrupted.
    """
    from edgedistill.pipeline.build import SEARCH

    _answer(api.search_all, SEARCH, options, dry_run=dry_run, as_json=as_json)


def _answer(run: Any, name: str, options: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """The plan, or what `run` found, which lies in the file called `name`; ends with its exit code."""
    from edgedistill.cli import build_table, errors, live, render

    path: Path = options.pop("path")
    asked = options | {"targets": tuple(options.pop("target") or ())}
    with errors.answering(as_json=as_json, resumable=not dry_run):
        if dry_run:
            asked.pop("keep_teacher", None)
            with live.watching() as listener:
                plan = api.plan(path, listener=listener, **asked)
            render.answer(plan, build_table.print_plan, as_json=as_json)
            return
        with live.watching() as listener:
            result = run(path, listener=listener, **asked)
        file = (asked["out"] or path.parent / "out") / name
        build_table.end_with(result, file, as_json=as_json, require_measured=asked["require_measured"])
