"""`edgedistill search`: a build that stops before shipping."""

from __future__ import annotations

from typing import Annotated

import typer

from edgedistill.cli.completion import complete_target
from edgedistill.cli.options import (
    BudgetText,
    BuildFile,
    DryRun,
    ExecutorName,
    Jobs,
    OutFolder,
    RequireMeasured,
    StorageName,
    TimeLimit,
    Trials,
    Verbose,
)


def search(
    context: typer.Context,
    path: BuildFile,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH.toml",
            autocompletion=complete_target,
            help="Device to search for, in place of the file's; `edgedistill targets` lists them.",
        ),
    ] = None,
    budget: BudgetText = None,
    out: OutFolder = None,
    require_measured: RequireMeasured = False,
    trials: Trials = None,
    time: TimeLimit = None,
    jobs: Jobs = 1,
    executor: ExecutorName = "local",
    storage: StorageName = None,
    dry_run: DryRun = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print search.json on stdout and nothing else there.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Find the student that a build would ship, and stop there; a build with the same file and output ships it.

    Several processes with the same --storage and cache share the work; one that is killed loses nothing.

    Exit codes: 0 met (or unmeasured), 2 bad input, 3 budget not met, 4 device unreachable, 130 interrupted.
    """
    from edgedistill import api
    from edgedistill.cli import render
    from edgedistill.cli.build import exit_code
    from edgedistill.cli.build_table import print_found, print_plan
    from edgedistill.cli.errors import answering
    from edgedistill.cli.live import watching

    with answering(as_json=as_json, resumable=not dry_run):
        if dry_run:
            wanted = () if target is None else (target,)
            planned = api.plan(path, targets=wanted, budget=budget, trials=trials, time=time)
            render.write_json(planned.model_dump_json()) if as_json else print_plan(render.results(), planned)
            return
        with watching(verbose=verbose or bool(context.obj)) as listener:
            result = api.search(
                path,
                target=target,
                budget=budget,
                out=out,
                require_measured=require_measured,
                trials=trials,
                time=time,
                jobs=jobs,
                executor=executor,
                storage=storage,
                listener=listener,
            )
        if as_json:
            render.write_json(result.model_dump_json())
        else:
            print_found(render.results(), result, out if out is not None else path.parent / "out")
        if code := exit_code(result.status, require_measured=require_measured):
            raise typer.Exit(code)
