"""`edgedistill build` and `search`: the loop, its progress and its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.options import DryRun, NoTeacher, Verbose, search_options
from edgedistill.cli.signature import taking

if TYPE_CHECKING:
    from edgedistill.base.progress import Listener
    from edgedistill.documents.results import BuildIndex, BuildResult, SearchResult

PLANNED = ("budget", "trials", "time")


@taking(search_options)
def build(
    context: typer.Context,
    no_teacher: NoTeacher = False,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print build.json on stdout and nothing else there.")] = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Distil, quantise, export and measure students until one is proven to meet the budget.

    A build that was stopped goes on when the same command is run again. For several targets, each has a folder of its own.

    Exit codes: 0 met (or unmeasured), 2 bad input, 3 budget not met, 4 device unreachable, 130 interrupted.
    """
    import edgedistill as api
    from edgedistill.pipeline.build import BUILD

    def run(path: Path, listener: Listener, asked: dict[str, Any]) -> BuildResult | BuildIndex:
        return api.build_all(path, keep_teacher=not no_teacher, listener=listener, **asked)

    _answer(run, BUILD, options, dry_run=dry_run, as_json=as_json, verbose=verbose or bool(context.obj))


@taking(search_options)
def search(
    context: typer.Context,
    dry_run: DryRun = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print search.json on stdout and nothing else there.")
    ] = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Find the student that a build would ship, and stop there; a build with the same file and output ships it.

    Several processes with the same --storage and cache share the work; one that is killed loses nothing.

    Exit codes: 0 met (or unmeasured), 2 bad input, 3 budget not met, 4 device unreachable, 130 interrupted.
    """
    import edgedistill as api
    from edgedistill.pipeline.build import SEARCH

    def run(path: Path, listener: Listener, asked: dict[str, Any]) -> SearchResult | BuildIndex:
        return api.search_all(path, listener=listener, **asked)

    _answer(run, SEARCH, options, dry_run=dry_run, as_json=as_json, verbose=verbose or bool(context.obj))


def _answer(run: Any, name: str, options: dict[str, Any], *, dry_run: bool, as_json: bool, verbose: bool) -> None:
    """The plan, or what `run` found, which lies in the file called `name`; ends with its exit code."""
    import edgedistill as api
    from edgedistill.cli.build_table import end_with, show_plan
    from edgedistill.cli.errors import answering
    from edgedistill.cli.live import watching

    path: Path = options.pop("path")
    asked = options | {"targets": tuple(options.pop("target") or ())}
    with answering(as_json=as_json, resumable=not dry_run):
        if dry_run:
            wanted = {name: asked[name] for name in ("targets", "one_student", *PLANNED)}
            show_plan(api.plan(path, **wanted), as_json=as_json)
            return
        with watching(verbose=verbose) as listener:
            result = run(path, listener, asked)
        out: Path | None = asked["out"]
        file = (out if out is not None else path.parent / "out") / name
        end_with(result, file, as_json=as_json, require_measured=asked["require_measured"])
