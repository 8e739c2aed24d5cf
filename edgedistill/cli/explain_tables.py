"""An explanation on the terminal: the winner, the others, operators, other budgets, the search."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from edgedistill.base.units import format_bytes, format_ms, format_percent
from edgedistill.cli import render
from edgedistill.cli.build_table import status_text
from edgedistill.documents.artifacts import MeasuredLatency, UnknownLatency
from edgedistill.documents.explanation import ExplainResult, OperatorTimes, WinnerExplained
from edgedistill.outputs.explain.shown import accuracy_text, compared_text, latency_text, validation_text
from edgedistill.outputs.explain.words import (
    answer_sentences,
    budget_rows,
    cost_sentence,
    limit_rows,
    prediction_sentence,
    why_sentence,
)

_KEPT_STYLES = {"yes": "green", "no": "red", "unknown": "yellow"}
_KINDS = 8


def print_explanation(console: Console, explained: ExplainResult) -> None:
    """All of it, in the order in which one asks."""
    console.print(status_text(explained.status, explained.verdict))
    if explained.asked is not None:
        _heading(console, f"a budget of {explained.asked.budget.claim}")
        for sentence in answer_sentences(explained.asked):
            console.print(sentence)
    _heading(console, "why this student" if explained.winner else "why no student")
    console.print(why_sentence(explained))
    _print_limits(console, explained)
    if explained.winner is not None:
        _print_beside_teacher(console, explained, explained.winner)
    _print_others(console, explained)
    _print_operators(console, explained)
    _print_budgets(console, explained)
    _heading(console, "the search")
    if explained.search.stopped:
        console.print(f"stopped: {explained.search.stopped}")
    console.print(cost_sentence(explained.search))
    console.print(prediction_sentence(explained.predictions))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _print_limits(console: Console, explained: ExplainResult) -> None:
    rows = [
        (what, allowed, reached, Text(kept, style=_KEPT_STYLES[kept]))
        for what, allowed, reached, kept in limit_rows(explained.constraints)
    ]
    console.print(render.table("limit", "allowed", "winner", "kept", rows=rows))


def _print_beside_teacher(console: Console, explained: ExplainResult, winner: WinnerExplained) -> None:
    teacher, percentile, images = winner.teacher, explained.budgets.budget.percentile, explained.validation_images
    columns = ("", "test", "validation", str(percentile), "measured in", "size")
    table = render.table(*columns, right=("test", "validation", "size"))
    table.add_row(
        f"student, trial {winner.trial}" if winner.trial is not None else "student",
        accuracy_text(winner.accuracy, winner.accuracy_interval),
        validation_text(winner.accuracy_validation, images),
        latency_text(winner.latency, percentile),
        render.sessions_cell(winner.latency),
        "unknown" if winner.bytes is None else format_bytes(winner.bytes),
    )
    table.add_row(
        f"teacher {teacher.name}",
        accuracy_text(teacher.accuracy, teacher.accuracy_interval),
        validation_text(teacher.accuracy_validation, images),
        latency_text(teacher.latency, percentile),
        render.sessions_cell(teacher.latency),
        format_bytes(teacher.bytes),
    )
    console.print(table)
    if teacher.times_faster is not None and teacher.accuracy_difference is not None:
        points = f"{teacher.accuracy_difference * 100:+.2f} points on the test split"
        console.print(f"{teacher.times_faster:.1f} times as fast as its teacher, {points}")
    if winner.proof is not None:
        console.print(f"{'proven' if winner.proof.met else 'not proven'}: {winner.proof.sentence}")
    if isinstance(winner.latency, UnknownLatency):
        console.print(f"latency unknown: {winner.latency.reason}")


def _print_others(console: Console, explained: ExplainResult) -> None:
    if not explained.others:
        return
    _heading(console, "what the next ones lacked" if explained.winner else "what each lacked, the nearest first")
    percentile = explained.budgets.budget.percentile
    table = render.table("trial", "student", "validation", str(percentile), "lacked", right=("trial", "validation"))
    for other in explained.others:
        accuracy = other.accuracy_model if other.accuracy_validation is None else other.accuracy_validation
        measured = isinstance(other.latency, MeasuredLatency)
        table.add_row(
            str(other.trial),
            f"{other.label} {other.precision or ''}".strip() if measured else other.label,
            "–" if accuracy is None else validation_text(accuracy, explained.validation_images),
            compared_text(other.latency, percentile, explained.budgets.budget.in_its_unit).partition(" (")[0],
            other.lacked,
        )
    console.print(table)
    told = (
        "≈ is predicted, all else measured in 1 session beside the anchor; accuracy is of the file where one was run, else "
        "of the torch model, after the last rung reached"
    )
    more = f"{explained.left_out} more: --students {len(explained.others) + explained.left_out}"
    console.print(Text(f"{told}; {more}" if explained.left_out else told, style="dim"))


def _print_operators(console: Console, explained: ExplainResult) -> None:
    _heading(console, "which operators cost the time")
    times = explained.operators
    if not isinstance(times, OperatorTimes):
        console.print(f"unknown: {times.reason}")
        return
    kinds = [
        (kind.name, str(kind.count), format_ms(kind.total_us / 1000), format_percent(kind.share))
        for kind in times.kinds[:_KINDS]
    ]
    table = render.table("kind", "count", "time", "share", right=("count", "time", "share"), rows=kinds)
    if rest := times.kinds[_KINDS:]:
        table.add_row(
            f"{len(rest)} other kinds",
            str(sum(kind.count for kind in rest)),
            format_ms(sum(kind.total_us for kind in rest) / 1000),
            format_percent(sum(kind.share for kind in rest)),
        )
    console.print(table)
    dearest = [
        (one.name, one.op_type, format_ms(one.median_us / 1000), format_percent(one.share)) for one in times.dearest
    ]
    console.print(render.table("dearest operators", "kind", "time", "share", right=("time", "share"), rows=dearest))
    console.print(
        Text(
            f"measured on {times.device}: {times.operators} in {times.path}, in a run apart from the latency's",
            style="dim",
        )
    )


def _print_budgets(console: Console, explained: ExplainResult) -> None:
    _heading(console, "what another budget would give")
    budgets = explained.budgets
    if rows := budget_rows(budgets):
        columns = (f"from {budgets.budget.percentile}", "validation", "known by", "student")
        console.print(render.table(*columns, rows=rows))
    else:
        console.print("unknown: nothing was measured, and nothing is predicted")
    if budgets.would_do_ms is not None:
        console.print(f"least budget that should be provable: {budgets.budget.in_its_unit(budgets.would_do_ms)}")
