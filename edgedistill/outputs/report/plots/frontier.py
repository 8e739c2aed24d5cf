"""Accuracy against latency: every trial, the frontier, students that models expect, the budget, the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.base.units import format_ms, format_percent
from edgedistill.documents.results import BuildResult, PredictedPoint
from edgedistill.documents.specs import Budget
from edgedistill.outputs.explain.shown import measured_in, validation_text
from edgedistill.outputs.report.plots.axes import padded, shown_range, time_settings
from edgedistill.outputs.report.plots.placed import Placed, Point, View, place
from edgedistill.outputs.report.plots.style import (
    MARKS,
    Mark,
    add_budget_line,
    hover_text,
    interval_bars,
    new_figure,
)
from edgedistill.outputs.report.verdict import prediction_text

PREDICTION = "prediction"
"""`meta` of traces that are off until they are asked for; the figure's own `meta` then has the axes for both `views`."""


def frontier(result: BuildResult) -> go.Figure | None:
    """Quality on validation against latency at the budget's percentile: every trial, the frontier, the students that models
    expect, the budget, the teacher. Outliers lie outside the axes (`Placed.beyond`), and predictions are off where anything
    was measured. None if there is nothing to place."""
    placed = place(result)
    if placed is None:
        return None
    budget = result.budget
    figure = new_figure(520)
    title = f"{budget.percentile} latency"
    views = {name: _axes(v, title, budget) for name, v in (("measured", placed.view), ("all", placed.whole))}
    figure.update_layout(views["measured"])
    off: dict[str, Any] = {}
    if placed.hides_predictions:
        figure.update_layout(meta={"views": views})
        off = {"visible": "legendonly", "meta": PREDICTION}
    figure.add_shape(
        type="rect",
        x0=budget.latency_ms,
        x1=2 * max(placed.view.latencies_ms[1], placed.whole.latencies_ms[1]),
        y0=0,
        y1=1,
        yref="paper",
        fillcolor="var(--wash)",
        line_width=0,
        layer="below",
    )
    if result.frontier:
        ordered = sorted(result.frontier, key=lambda p: p.latency_ms)
        figure.add_scatter(
            x=[p.latency_ms for p in ordered],
            y=[p.quality_validation for p in ordered],
            mode="lines",
            line={"color": "var(--student)", "width": 1.5, "shape": "hv"},
            name="frontier of what was measured",
            hoverinfo="skip",
        )
    for kind, mark in MARKS.items():
        some = [p for p in (*placed.measured, *placed.predicted) if p.kind == kind]
        if some:
            _add_points(figure, some, mark, off if kind == "predicted" else {})
    if placed.expected:
        _add_expected(figure, placed.expected, result, off)
    ends = [end for view in views.values() for end in view["yaxis"]["range"]]
    add_budget_line(figure, budget, budget.latency_ms, min(ends), max(ends))
    _add_teacher(figure, placed, result)
    _mark_winner(figure, placed)
    figure.update_yaxes(title_text=f"{result.metric} (validation)", tickformat=".1%")
    return figure


def _axes(view: View, title: str, budget: Budget) -> dict[str, dict[str, Any]]:
    """Both axes of a view, with all that differs between two of them."""
    settings = time_settings(view.latencies_ms, title, budget)
    span = shown_range(view.latencies_ms, settings["type"] == "log")
    return {"xaxis": settings | {"range": span}, "yaxis": {"range": list(padded(*view.qualities))}}


def _add_points(figure: go.Figure, some: Sequence[Point], mark: Mark, off: dict[str, Any]) -> None:
    latencies = [p.latency_ms for p in some]
    predicted = mark is MARKS["predicted"]
    figure.add_scatter(
        x=latencies,
        y=[p.quality for p in some],
        mode="markers",
        marker={"symbol": mark.symbol, "size": 9, "color": mark.color, "line": {"color": mark.color, "width": 1.5}},
        error_x=interval_bars(latencies, [p.low_ms for p in some], [p.high_ms for p in some], mark.color)
        if predicted
        else None,
        name=mark.name,
        hoverinfo="text",
        hovertext=[p.text for p in some],
        **off,
    )


def _add_expected(
    figure: go.Figure, expected: Sequence[PredictedPoint], result: BuildResult, off: dict[str, Any]
) -> None:
    """Students that were not trained, with both intervals."""
    mark = MARKS["expected"]
    latencies, qualities = [p.latency.latency_ms for p in expected], [p.quality_validation for p in expected]
    figure.add_scatter(
        x=latencies,
        y=qualities,
        mode="markers",
        marker={"symbol": mark.symbol, "size": 10, "color": mark.color, "line": {"color": mark.color, "width": 1.5}},
        error_x=interval_bars(
            latencies, [p.latency.low_ms for p in expected], [p.latency.high_ms for p in expected], mark.color
        ),
        error_y=interval_bars(
            qualities,
            [p.quality_validation_low for p in expected],
            [p.quality_validation_high for p in expected],
            mark.color,
        ),
        name=mark.name,
        hoverinfo="text",
        hovertext=[
            hover_text(
                p.spec.family,
                p.spec.described,
                f"predicted {prediction_text(p.latency, result.budget)}",
                f"validation {result.metric} predicted {format_percent(p.quality_validation)} "
                f"({format_percent(p.quality_validation_low)} to "
                f"{format_percent(p.quality_validation_high)}, 95% interval)",
                "not trained, not measured",
            )
            for p in expected
        ],
        **off,
    )


def _add_teacher(figure: go.Figure, placed: Placed, result: BuildResult) -> None:
    """The teacher's point; where that lies beyond the axis, also a word at the edge."""
    teacher, teacher_ms, percentile = result.teacher, placed.teacher_ms, result.budget.percentile
    if teacher_ms is None:
        return
    figure.add_scatter(
        x=[teacher_ms],
        y=[teacher.quality_validation],
        mode="markers+text",
        marker={"symbol": "diamond", "size": 12, "color": "var(--teacher)"},
        text=["teacher"],
        textposition="bottom left",
        textfont={"color": "var(--teacher)"},
        name="teacher, measured",
        hoverinfo="text",
        hovertext=hover_text(
            f"teacher {teacher.name}",
            f"{teacher.parameters:,} parameters, {teacher.resolution} px",
            f"{percentile} {format_ms(teacher_ms)} beside the anchor, in {measured_in(teacher.latency)}, fp32",
            f"validation {result.metric} {validation_text(teacher.quality_validation, result.data.validation)}",
        ),
    )
    low_ms, high_ms = placed.view.latencies_ms
    if not low_ms <= teacher_ms <= high_ms:
        after = teacher_ms > high_ms
        told = f"teacher at {result.budget.figure(teacher_ms)}"
        figure.add_annotation(
            x=1 if after else 0,
            xref="paper",
            xanchor="right" if after else "left",
            y=teacher.quality_validation,
            yanchor="bottom",
            text=f"{told} →" if after else f"← {told}",
            showarrow=False,
            font={"color": "var(--teacher)"},
        )


def _mark_winner(figure: go.Figure, placed: Placed) -> None:
    """A ring round the shipped student's own point, if it was measured."""
    if placed.winner is None:
        return
    figure.add_scatter(
        x=[placed.winner[0]],
        y=[placed.winner[1]],
        mode="markers+text",
        marker={"symbol": "circle-open", "size": 19, "color": "var(--student)", "line": {"width": 2}},
        text=["student"],
        textposition="top center",
        textfont={"color": "var(--student)"},
        name="the student that ships",
        hoverinfo="skip",
    )
