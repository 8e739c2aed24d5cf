"""report.html: one file, no network, from a build's result and the profiles of its student and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.base.store import write_atomic
from edgedistill.documents.explanation import ExplainResult
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.build_folder import ReportProfiles, read_build, read_profiles
from edgedistill.outputs.explain.explain import explain_build
from edgedistill.outputs.explain.words import budget_rows, cost_sentence, limit_rows, prediction_sentence, why_sentence
from edgedistill.outputs.report import artifact_table, candidates, left_out, operator_tables, proof_tables, tables
from edgedistill.outputs.report.commands import commands, find_build_file
from edgedistill.outputs.report.crossing import crossed_sentence, crossed_table
from edgedistill.outputs.report.earlier import earlier_rows, earlier_sentence
from edgedistill.outputs.report.mistakes import mistakes_shown, read_thumbnails
from edgedistill.outputs.report.noise import noise_of
from edgedistill.outputs.report.page import rendered
from edgedistill.outputs.report.plots.distribution import distribution
from edgedistill.outputs.report.plots.frontier import frontier
from edgedistill.outputs.report.plots.halving import halving
from edgedistill.outputs.report.plots.operators import TOP_OPERATORS, operators
from edgedistill.outputs.report.plots.order import order
from edgedistill.outputs.report.plots.over_time import over_time
from edgedistill.outputs.report.plots.placed import place
from edgedistill.outputs.report.plots.predictions import predictions
from edgedistill.outputs.report.repeat import repeat_command, repeat_script
from edgedistill.outputs.report.verdict import make_verdict


def render_report(
    result: BuildResult,
    profiles: ReportProfiles,
    build_file: str = "",
    thumbnails: Mapping[str, bytes] | None = None,
) -> str:
    """The whole page as HTML text. Labels, paths and reasons may hold anything. `build_file` is the path of the build file
    from the output folder, empty where it is not known; `thumbnails` are the pictures of the mistakes, by their path in the
    result."""
    explained = explain_build(result, profiles, Path())
    return rendered(
        "report.html.j2",
        result=result,
        profiles=profiles,
        verdict=make_verdict(result),
        noise=noise_of(result),
        budget=result.budget.claim,
        placed=place(result),
        figures=_figures(result, profiles),
        tables=_tables(result, profiles, explained),
        proof=proof_facts(result, profiles),
        mistakes=mistakes_shown(result, thumbnails or {}),
        explained=explained,
        why=why_sentence(explained),
        cost=cost_sentence(explained.search),
        predictions_held=prediction_sentence(explained.predictions),
        climbed=candidates.climb_sentence(result),
        crossed=crossed_sentence(result),
        limits=limit_rows(result.constraints),
        budgets=budget_rows(explained.budgets),
        unknowns=tables.unknowns(result),
        computed_by=tables.computed_by(result),
        environments=tables.environments(result, profiles.winner, profiles.teacher),
        data=tables.data_facts(result),
        recipe=tables.recipe_facts(result),
        repeat_script=repeat_script(result, profiles.winner),
        repeat_command=repeat_command(result),
        commands=commands(result, build_file),
        build_file=build_file,
        version=result.edgedistill_version,
        **_samples(result, profiles),
    )


def _figures(result: BuildResult, profiles: ReportProfiles) -> dict[str, go.Figure | None]:
    """The plots, each None where there is nothing to draw."""
    percentile = result.budget.percentile
    return {
        "frontier": frontier(result),
        "over_time": over_time(profiles.winner, result.proof, percentile),
        "distribution": distribution(profiles.winner, profiles.teacher, result.budget, _limit_ms(result)),
        "operators": operators(profiles.winner.op_timings) if profiles.winner else None,
        "order": order(result),
        "predictions": predictions(result),
        "halving": halving(result),
    }


def _tables(result: BuildResult, profiles: ReportProfiles, explained: ExplainResult) -> dict[str, Any]:
    timings = profiles.winner.op_timings if profiles.winner else ()
    return {
        "artifacts": artifact_table.artifact_table(result),
        "trials": candidates.trial_table(result),
        "others": candidates.other_table(result, explained),
        "crossed": crossed_table(result),
        "left_out": left_out.left_out_table(result),
        "types": operator_tables.type_table(timings),
        "layers": operator_tables.layer_table(timings),
    }


def _samples(result: BuildResult, profiles: ReportProfiles) -> dict[str, Any]:
    """What the page tells of raw samples."""
    winner, percentile = profiles.winner, result.budget.percentile
    timings = winner.op_timings if winner else ()
    named = [(n, p) for n, p in (("student", winner), ("teacher", profiles.teacher)) if p]
    return {
        "session_rows": [row for n, p in named for row in proof_tables.session_rows(n, p, percentile)],
        "sessions": {n: len(p.sessions) for n, p in named},
        "alternating": [(n, *proof_tables.alternating(p)) for n, p in named],
        "winner_runtime": winner.environment.runtime_version if winner else "",
        "clock": operator_tables.clock_text(winner) if winner else "",
        "shown_operators": min(len(timings), TOP_OPERATORS),
    }


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
        "earlier": earlier_rows(result),
        "against_earlier": earlier_sentence(result),
        "sustained": proof_tables.sustained_text(sustained, result.budget.percentile) if sustained else "",
        "sustained_machine": proof_tables.sustained_machine(sustained) if sustained else [],
    }


def write_report(out: Path) -> Path:
    """Write `out/report.html`, whole or not at all, from `out/build.json`, `out/profiles/` and `out/mistakes/`. Returns its
    path. Raises InputError if one of the first two cannot be read; a picture that cannot be read is not shown."""
    result = read_build(out)
    path = out / "report.html"
    build_file = result.build_file or find_build_file(out, result.target)
    write_atomic(path, render_report(result, read_profiles(out, result), build_file, read_thumbnails(out, result)))
    return path
