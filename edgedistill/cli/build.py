"""`edgedistill build`: the loop, its progress and its result."""

from __future__ import annotations

from typing import Annotated

import typer

from edgedistill.cli.options import (
    BudgetText,
    BuildFile,
    DryRun,
    ExecutorName,
    Jobs,
    OutFolder,
    RequireMeasured,
    StorageName,
    Targets,
    TimeLimit,
    Trials,
    Verbose,
)


def build(
    context: typer.Context,
    path: BuildFile,
    target: Targets = None,
    budget: BudgetText = None,
    out: OutFolder = None,
    require_measured: RequireMeasured = False,
    trials: Trials = None,
    time: TimeLimit = None,
    jobs: Jobs = 1,
    executor: ExecutorName = "local",
    storage: StorageName = None,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print build.json on stdout and nothing else there.")] = False,
    verbose: Verbose = False,
) -> None:
    """Distil, quantise, export and measure students until one is proven to meet the budget.

    A build that was stopped goes on when the same command is run again. For several targets, each has a folder of its own.

    Exit codes: 0 met (or unmeasured), 2 bad input, 3 budget not met, 4 device unreachable, 130 interrupted.
    """
    from edgedistill import api
    from edgedistill.cli import render
    from edgedistill.cli.build_table import print_index, print_plan, print_result
    from edgedistill.cli.errors import answering
    from edgedistill.cli.live import watching
    from edgedistill.results import BuildIndex

    wanted = tuple(target or ())
    with answering(as_json=as_json, resumable=not dry_run):
        if dry_run:
            planned = api.plan(path, targets=wanted, budget=budget, trials=trials, time=time)
            render.write_json(planned.model_dump_json()) if as_json else print_plan(render.results(), planned)
            return
        with watching(verbose=verbose or bool(context.obj)) as listener:
            result = api.build_all(
                path,
                targets=wanted,
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
        folder = out if out is not None else path.parent / "out"
        if as_json:
            render.write_json(result.model_dump_json())
        elif isinstance(result, BuildIndex):
            print_index(render.results(), result, folder)
        else:
            print_result(render.results(), result, folder)
        statuses = [entry.status for entry in result.targets] if isinstance(result, BuildIndex) else [result.status]
        if code := max(exit_code(status, require_measured=require_measured) for status in statuses):
            raise typer.Exit(code)


def exit_code(status: str, *, require_measured: bool) -> int:
    """What the outcome of a build or search means for whoever called: 0, 3 (not met) or 4 (a measurement was asked for)."""
    from edgedistill.errors import ExitCode

    if status == "not_met":
        return int(ExitCode.BUDGET_NOT_MET)
    if status == "unmeasured" and require_measured:
        return int(ExitCode.UNREACHABLE)
    return int(ExitCode.OK)
