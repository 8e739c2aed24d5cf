"""`edgedistill build`: the loop, its progress and its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.completion import complete_target

if TYPE_CHECKING:
    from edgedistill.results import BuildResult


def build(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="BUILD.toml", help="The build file; `edgedistill init` writes one.")],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH.toml",
            autocompletion=complete_target,
            help="Device to build for, in place of the file's; `edgedistill targets` lists them.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="5ms[@p95]|20%[@p95]",
            help="Latency to stay within, in place of the file's: milliseconds, or a share of the teacher's.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="out/ beside BUILD.toml")
    ] = None,
    require_measured: Annotated[
        bool, typer.Option("--require-measured", help="Exit 4 unless the budget was measured on the device.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print build.json on stdout and nothing else there.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show reused stages too.")] = False,
) -> None:
    """Distil, quantise, export and measure students until one is proven to meet the budget.

    A build that was stopped goes on when the same command is run again.

    Exit codes: 0 met (or unmeasured), 2 bad input, 3 budget not met, 4 device unreachable, 130 interrupted.
    """
    from edgedistill import api
    from edgedistill.cli import render
    from edgedistill.cli.build_table import print_result
    from edgedistill.cli.errors import answering
    from edgedistill.cli.live import watching

    with answering(as_json=as_json, resumable=True):
        if budget is not None:
            _check_budget(budget)
        with watching(verbose=verbose or bool(context.obj)) as listener:
            result = api.build(
                path, target=target, budget=budget, out=out, require_measured=require_measured, listener=listener
            )
        if as_json:
            render.write_json(result.model_dump_json())
        else:
            print_result(render.results(), result, out if out is not None else path.parent / "out")
        if code := exit_code(result, require_measured=require_measured):
            raise typer.Exit(code)


def exit_code(result: BuildResult, *, require_measured: bool) -> int:
    """What the outcome of a build means for whoever called: 0, 3 (not met) or 4 (a measurement was asked for)."""
    from edgedistill.errors import ExitCode

    if result.status == "not_met":
        return int(ExitCode.BUDGET_NOT_MET)
    if result.status == "unmeasured" and require_measured:
        return int(ExitCode.UNREACHABLE)
    return int(ExitCode.OK)


def _check_budget(text: str) -> None:
    """Refuse a wrong `--budget` by its own name, before anything is read."""
    from edgedistill.errors import InputError, Problem
    from edgedistill.specs import BudgetRequest

    try:
        BudgetRequest.parse(text)
    except InputError as error:
        raise InputError("a wrong option", problems=[Problem("--budget", error.message, error.fix)]) from None
