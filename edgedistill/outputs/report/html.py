"""report.html: one file, no network, from a build's result and the profiles of its student and its teacher."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from edgedistill.base.intervals import wilson_interval
from edgedistill.base.store import write_atomic
from edgedistill.base.units import format_bytes, format_ms, format_percent, format_seconds
from edgedistill.documents.artifacts import MeasuredLatency
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.build_folder import ReportProfiles, read_build, read_profiles
from edgedistill.outputs.explain.explain import explain_build
from edgedistill.outputs.explain.shown import compared_text, measured_in
from edgedistill.outputs.explain.winner import winning_artifact, winning_trial
from edgedistill.outputs.explain.words import budget_rows, cost_sentence, limit_rows, prediction_sentence, why_sentence
from edgedistill.outputs.report import proof_tables, tables
from edgedistill.outputs.report.plots.distribution import distribution
from edgedistill.outputs.report.plots.frontier import frontier
from edgedistill.outputs.report.plots.halving import halving
from edgedistill.outputs.report.plots.operators import TOP_OPERATORS, operators
from edgedistill.outputs.report.plots.order import order
from edgedistill.outputs.report.plots.over_time import over_time
from edgedistill.outputs.report.plots.predictions import predictions
from edgedistill.outputs.report.plots.style import STATES
from edgedistill.outputs.report.repeat import repeat_command, repeat_script
from edgedistill.outputs.report.verdict import make_verdict


def render_report(result: BuildResult, profiles: ReportProfiles) -> str:
    """The whole page as HTML text, about 5 MB of which are Plotly's script. Labels, paths and reasons may hold anything:
    they are escaped in the page, in its scripts and in the plots."""
    percentile = result.budget.percentile
    drawn = {
        "frontier": frontier(result),
        "over_time": over_time(profiles.winner, result.proof, percentile),
        "distribution": distribution(profiles.winner, profiles.teacher, result.budget, _limit_ms(result)),
        "operators": operators(profiles.winner.op_timings) if profiles.winner else None,
        "order": order(result),
        "predictions": predictions(result),
        "halving": halving(result),
    }
    explained = explain_build(result, profiles, Path())
    timings = profiles.winner.op_timings if profiles.winner else ()
    named = [(n, p) for n, p in (("student", profiles.winner), ("teacher", profiles.teacher)) if p]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            profiles=profiles,
            verdict=make_verdict(result),
            budget=result.budget.claim,
            winner=winning_artifact(result),
            winning_trial=winning_trial(result),
            figures={name: figure and embedded_json(figure) for name, figure in drawn.items()},
            session_rows=[row for n, p in named for row in proof_tables.session_rows(n, p, percentile)],
            alternating=[(n, *proof_tables.alternating(p)) for n, p in named],
            proof=proof_facts(result, profiles),
            winner_runtime=profiles.winner.environment.runtime_version if profiles.winner else "",
            repeat_script=repeat_script(result, profiles.winner),
            repeat_command=repeat_command(result),
            shown_operators=min(len(timings), TOP_OPERATORS),
            explained=explained,
            why=why_sentence(explained),
            cost=cost_sentence(explained.search),
            predictions_held=prediction_sentence(explained.predictions),
            limits=limit_rows(result.constraints),
            budgets=budget_rows(explained.budgets),
            unknowns=tables.unknowns(result),
            computed_by=tables.computed_by(result),
            rungs=result.rungs,
            states=STATES,
            dropped=tables.dropped(result),
            environments=tables.environments(result, profiles.winner, profiles.teacher),
            data=tables.data_facts(result),
            commands=tables.commands(result),
            css=_asset("report.css"),
            js=_asset("report.js"),
            plotly_js=Markup(get_plotlyjs()),
        )
    )


def _limit_ms(result: BuildResult) -> float:
    """Where the budget lies on an axis of latencies as they were: a share at that share of the teacher's own percentile."""
    budget, theirs = result.budget, result.teacher.latency
    if budget.share_of_teacher is None or not isinstance(theirs, MeasuredLatency):
        return budget.latency_ms
    return budget.share_of_teacher * theirs.at(budget.percentile)


def proof_facts(result: BuildResult, profiles: ReportProfiles) -> dict[str, Any]:
    """What the section of the proof holds; `facts` is empty without one."""
    proof, sustained = result.proof, result.sustained
    sessions = profiles.winner.sessions if profiles.winner else ()
    return {
        "facts": proof_tables.claim_facts(proof, sessions) if proof else (),
        "sessions": proof_tables.proof_sessions(proof) if proof else [],
        "machine": proof_tables.proof_machine(proof, sessions) if proof else [],
        "earlier": proof_tables.earlier_rows(result),
        "sustained": proof_tables.sustained_text(sustained, result.budget.percentile) if sustained else "",
        "sustained_machine": proof_tables.sustained_machine(sustained) if sustained else [],
    }


def write_report(out: Path) -> Path:
    """Write `out/report.html`, whole or not at all, from `out/build.json` and `out/profiles/`. Returns its path. Raises
    InputError if either cannot be read."""
    result = read_build(out)
    path = out / "report.html"
    write_atomic(path, render_report(result, read_profiles(out, result)))
    return path


def embedded_json(figure: go.Figure) -> Markup:
    """A figure as JSON for a `<script>` element. `<`, `>` and `&` are written as escapes, so that no text in it can end the
    element or open a comment; a JSON parser reads the same text back."""
    text: str = figure.to_json(validate=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("edgedistill.outputs.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats: dict[str, Callable[..., str]] = {
        "ms": format_ms,
        "size": format_bytes,
        "percent": format_percent,
        "seconds": format_seconds,
    }

    def known(value: float | None, unit: str, *arguments: Any) -> str:
        """A value in its unit, or the word for a missing one."""
        return "unknown" if value is None else formats[unit](value, *arguments)

    environment.filters.update(
        **formats,
        known=known,
        compared=compared_text,
        measured_in=measured_in,
        wilson=wilson_interval,
        count="{:,}".format,
        accuracy_after=tables.accuracy_after,
    )
    return environment


@cache
def _asset(name: str) -> Markup:
    """The text of one of our own style sheets or scripts, to stand in its element as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))
