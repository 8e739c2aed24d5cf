"""`edgedistill explain`: why a build ended as it did."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgedistill.cli.options import AsJson, BuildOutput

STUDENTS_SHOWN = 3


def explain(
    out: BuildOutput,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="5ms[@p95]|20%[@p95]", help="Say only what this budget would give; at the build's percentile."
        ),
    ] = None,
    students: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="How many of those that did not win to show; --json has 10.",
            show_default=str(STUDENTS_SHOWN),
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every student, operator and budget.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say why this student won, what the next ones lacked, and what another budget would give.

    It also says which operators cost the time, and what the search did. Nothing is measured.
    """
    import edgedistill as api
    from edgedistill.cli import errors, render
    from edgedistill.cli.explain_tables import print_explanation
    from edgedistill.outputs.explain.explain import OTHERS

    with errors.answering(as_json=as_json):
        if everything:
            students = sys.maxsize
        result = api.explain(out, budget=budget, students=OTHERS if students is None else students)
        shown = STUDENTS_SHOWN if students is None else students
        render.answer(result, print_explanation, shown, everything, as_json=as_json)
