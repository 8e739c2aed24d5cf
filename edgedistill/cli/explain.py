"""`edgedistill explain`: why a build ended as it did."""

from __future__ import annotations

from typing import Annotated

import typer

from edgedistill.cli.options import AsJson, BuildOutput


def explain(
    out: BuildOutput,
    budget: Annotated[
        str | None,
        typer.Option(metavar="5ms[@p95]|20%[@p95]", help="Ask what this budget would give; at the build's percentile."),
    ] = None,
    students: Annotated[int, typer.Option(min=0, metavar="N", help="How many of those that did not win to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Say why this student won, what the next ones lacked, which operators cost the time, and what another budget would
    give."""
    import edgedistill as api
    from edgedistill.cli import errors, render
    from edgedistill.cli.explain_tables import print_explanation

    with errors.answering(as_json=as_json):
        result = api.explain(out, budget=budget, students=students)
        render.answer(result, print_explanation, as_json=as_json)
