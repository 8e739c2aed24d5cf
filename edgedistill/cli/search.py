"""`edgedistill search`: a build that stops before shipping."""

from __future__ import annotations

from typing import Annotated

import typer

from edgedistill.cli.options import (
    BudgetText,
    BuildFile,
    DryRun,
    ExecutorName,
    Jobs,
    OneStudent,
    OutFolder,
    Remeasure,
    RequireMeasured,
    StorageName,
    Targets,
    TimeLimit,
    Trials,
    Verbose,
)


def search(
    context: typer.Context,
    path: BuildFile,
    target: Targets = None,
    one_student: OneStudent = False,
    budget: BudgetText = None,
    out: OutFolder = None,
    require_measured: RequireMeasured = False,
    remeasure: Remeasure = False,
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
    from edgedistill.building import SEARCH
    from edgedistill.cli.build_table import end_with, show_plan
    from edgedistill.cli.errors import answering
    from edgedistill.cli.live import watching

    wanted = tuple(target or ())
    with answering(as_json=as_json, resumable=not dry_run):
        if dry_run:
            planned = api.plan(path, targets=wanted, one_student=one_student, budget=budget, trials=trials, time=time)
            show_plan(planned, as_json=as_json)
            return
        with watching(verbose=verbose or bool(context.obj)) as listener:
            result = api.search_all(
                path,
                targets=wanted,
                one_student=one_student,
                budget=budget,
                out=out,
                require_measured=require_measured,
                remeasure=remeasure,
                trials=trials,
                time=time,
                jobs=jobs,
                executor=executor,
                storage=storage,
                listener=listener,
            )
        file = (out if out is not None else path.parent / "out") / SEARCH
        end_with(result, file, as_json=as_json, require_measured=require_measured)
