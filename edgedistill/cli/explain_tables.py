"""An explanation on the terminal: the winner, the others, operators, other budgets, the search; or one budget alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from edgedistill.base.units import format_bytes, format_ms, format_percent
from edgedistill.cli import render
from edgedistill.cli.build_table import status_text
from edgedistill.documents.explanation import BudgetAnswer, ExplainResult, OperatorTimes, WinnerExplained
from edgedistill.documents.measurements import MeasuredLatency, UnknownLatency
from edgedistill.outputs.explain.shown import compared_text, latency_text, quality_text, validation_text
from edgedistill.outputs.explain.words import (
    Row,
    answer_sentences,
    budget_rows,
    cost_sentence,
    limit_rows,
    prediction_sentence,
    why_sentence,
)

_KEPT_STYLES = {"yes": "green", "no": "red", "unknown": "yellow"}
_KINDS = 3
_BUDGETS = 4
_OF_THE_TEACHER = " of the teacher's"


def print_explanation(console: Console, explained: ExplainResult, students: int, everything: bool) -> None:
    """The answer about the budget that was asked for, and nothing else; without one all parts, in the order in which one
    asks, with so many `students`. Of operators and budgets only the first, unless `everything` is wanted."""
    if explained.asked is not None:
        _print_answer(console, explained.asked)
        return
    console.print(status_text(explained.status, explained.verdict))
    _heading(console, "why this student" if explained.winner else "why no student")
    console.print(why_sentence(explained))
    _print_limits(console, explained)
    if explained.winner is not None:
        _print_beside_teacher(console, explained, explained.winner)
    _print_others(console, explained, students)
    _print_operators(console, explained, everything)
    _print_budgets(console, explained, everything)
    _heading(console, "the search")
    if explained.search.stopped:
        console.print(f"stopped: {explained.search.stopped}")
    console.print(cost_sentence(explained.search))
    console.print(prediction_sentence(explained.predictions))


def _print_answer(console: Console, answer: BudgetAnswer) -> None:
    console.print(Text(f"a budget of {answer.budget.claim}", style="bold"))
    for sentence in answer_sentences(answer):
        console.print(sentence)


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _print_table(console: Console, *columns: str, rows: Iterable[Sequence[RenderableType]], **layout: Any) -> None:
    """One without lines: there are several, and all are to be seen at once."""
    made = render.table(*columns, rows=rows, **layout)
    made.dense = True
    console.print(made)


def _print_limits(console: Console, explained: ExplainResult) -> None:
    rows = [
        (what, allowed, reached, Text(kept, style=_KEPT_STYLES[kept]))
        for what, allowed, reached, kept in limit_rows(explained.constraints)
    ]
    _print_table(console, "limit", "allowed", "winner", "kept", prose=("winner",), rows=rows)


def _print_beside_teacher(console: Console, explained: ExplainResult, winner: WinnerExplained) -> None:
    teacher, percentile, images = winner.teacher, explained.budgets.budget.percentile, explained.validation_images
    rows = [
        (
            f"student, trial {winner.trial}" if winner.trial is not None else "student",
            quality_text(winner.quality, winner.quality_interval),
            validation_text(winner.quality_validation, images),
            latency_text(winner.latency, percentile),
            render.sessions_cell(winner.latency),
            "unknown" if winner.bytes is None else format_bytes(winner.bytes),
        ),
        (
            f"teacher {teacher.name}",
            quality_text(teacher.quality, teacher.quality_interval),
            validation_text(teacher.quality_validation, images),
            latency_text(teacher.latency, percentile),
            render.sessions_cell(teacher.latency),
            "unknown" if teacher.bytes is None else format_bytes(teacher.bytes),
        ),
    ]
    columns = ("", "test", "validation", str(percentile), "measured in", "size")
    layout = {"right": ("test", "validation", "size"), "whole": ("",), "least": ("validation", "size")}
    _print_table(console, *columns, rows=rows, **layout)
    if teacher.times_faster is not None and teacher.quality_difference is not None:
        points = f"{teacher.quality_difference * 100:+.2f} points on the test split"
        console.print(f"{teacher.times_faster:.1f} times as fast as its teacher, {points}")
    if winner.proof is not None:
        console.print(f"{'proven' if winner.proof.met else 'not proven'}: {winner.proof.sentence}")
    if isinstance(winner.latency, UnknownLatency):
        console.print(f"latency unknown: {winner.latency.reason}")


def _print_others(console: Console, explained: ExplainResult, students: int) -> None:
    shown = explained.others[:students]
    if not shown:
        return
    _heading(console, "what the next ones lacked" if explained.winner else "what each lacked, the nearest first")
    budget = explained.budgets.budget
    rows: list[tuple[str, ...]] = []
    for other in shown:
        quality = other.quality_model if other.quality_validation is None else other.quality_validation
        measured = isinstance(other.latency, MeasuredLatency)
        figure, interval = _split("–" if quality is None else validation_text(quality, explained.validation_images))
        rows.append(
            (
                str(other.trial),
                f"{other.label} {other.precision or ''}".strip() if measured else other.label,
                figure,
                interval,
                _split(compared_text(other.latency, budget.percentile, budget.in_its_unit))[0],
                other.lacked,
            )
        )
    least = ("interval", "validation", str(budget.percentile))
    columns = ("trial", "student", "validation", "interval", str(budget.percentile), "lacked")
    layout = {"right": ("trial", "validation"), "whole": ("student",), "prose": ("lacked",), "least": least}
    _print_table(console, *columns, rows=rows, **layout)
    told = "≈ is predicted, all else measured in 1 session beside the anchor"
    count = len(explained.others) + explained.left_out
    more = f"; {count - len(shown)} more: --students {count}" if count > len(shown) else ""
    console.print(Text(f"{told}{more}", style="dim"))


def _print_operators(console: Console, explained: ExplainResult, everything: bool) -> None:
    _heading(console, "which operators cost the time")
    times = explained.operators
    if not isinstance(times, OperatorTimes):
        console.print(f"unknown: {times.reason}")
        return
    first = len(times.kinds) if everything else _KINDS
    rows = [
        (kind.name, str(kind.count), format_ms(kind.total_us / 1000), format_percent(kind.share))
        for kind in times.kinds[:first]
    ]
    if rest := times.kinds[first:]:
        taken, share = sum(kind.total_us for kind in rest), sum(kind.share for kind in rest)
        count = str(sum(kind.count for kind in rest))
        rows.append((f"{len(rest)} other kinds", count, format_ms(taken / 1000), format_percent(share)))
    _print_table(console, "kind", "count", "time", "share", right=("count", "time", "share"), rows=rows)
    if everything:
        dearest = [
            (one.name, one.op_type, format_ms(one.median_us / 1000), format_percent(one.share)) for one in times.dearest
        ]
        columns = ("dearest operators", "kind", "time", "share")
        layout = {"right": ("time", "share"), "prose": ("dearest operators",)}
        _print_table(console, *columns, rows=dearest, **layout)
    told = f"measured on {times.device}: {times.operators} in {times.path}, in a run apart from the latency's"
    console.print(Text(told if everything else f"{told}; single ones: --all", style="dim"))


def _print_budgets(console: Console, explained: ExplainResult, everything: bool) -> None:
    budgets = explained.budgets
    share = budgets.budget.share_of_teacher is not None
    unit = f", as a share{_OF_THE_TEACHER} {budgets.budget.percentile}" if share else ""
    _heading(console, f"what another budget would give{unit}")
    every = budget_rows(budgets)
    if rows := every if everything else budget_rows(budgets, _BUDGETS):
        start = f"from {budgets.budget.percentile}"
        columns = (start, "range", "validation", "interval", "known by", "trial", "student")
        layout = {"whole": ("student",), "prose": ("known by",), "least": ("range", "interval", "trial")}
        _print_table(console, *columns, rows=map(_budget_cells, rows), **layout)
    else:
        console.print("unknown: nothing was measured, and nothing is predicted")
    if len(rows) < len(every):
        console.print(Text(f"{len(every) - len(rows)} more: --all; another one: --budget", style="dim"))
    if budgets.would_do_ms is not None:
        console.print(f"least budget that should be provable: {budgets.budget.in_its_unit(budgets.would_do_ms)}")


def _budget_cells(row: Row) -> tuple[str, ...]:
    """A row of `budget_rows` in parts, of which a narrow terminal may leave some out."""
    latency, quality, how, whose = row
    trial, _, student = whose.partition(", ") if whose.startswith("trial ") else ("", "", whose)
    figures = (*_split(latency.replace(_OF_THE_TEACHER, "")), *_split(quality))
    return (*figures, how, trial.removeprefix("trial "), student)


def _split(figure: str) -> tuple[str, str]:
    """`97.41%` and `94.7% to 98.7%` of `97.41% (94.7% to 98.7%)`."""
    value, _, interval = figure.partition(" (")
    return value, interval.removesuffix(")")
