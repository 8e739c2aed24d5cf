"""Accuracy against latency: every trial, the frontier, students that models expect, the budget, the teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.base.units import format_ms, format_percent
from edgedistill.documents.artifacts import MeasuredLatency, PredictedLatency, SchemeResult, Trial, Verified
from edgedistill.documents.results import BuildResult, PredictedPoint
from edgedistill.documents.specs import Budget
from edgedistill.outputs.explain.limits import goal_of
from edgedistill.outputs.explain.shown import measured_in, validation_text
from edgedistill.outputs.explain.winner import winning_artifact, winning_trial
from edgedistill.outputs.report.plots.style import (
    MARKS,
    Mark,
    add_budget_line,
    hover_text,
    interval_bars,
    new_figure,
    padded,
    shown_range,
    time_axis,
    time_range,
    trial_hover,
)
from edgedistill.outputs.report.verdict import prediction_text
from edgedistill.selection.goal import provable_ms


@dataclass(frozen=True)
class _Point:
    kind: str
    latency_ms: float
    accuracy: float
    text: str
    low_ms: float
    high_ms: float


def frontier(result: BuildResult) -> go.Figure | None:
    """Accuracy on validation against latency at the budget's percentile: every trial, the frontier, the students that models
    expect, the budget, the teacher. None if there is nothing to place."""
    percentile = result.budget.percentile
    placed = [point for trial in result.trials for point in _points(trial, result)]
    teacher = result.teacher
    teacher_ms = teacher.latency.comparable(percentile) if isinstance(teacher.latency, MeasuredLatency) else None
    if not placed and teacher_ms is None:
        return None
    expected = [p for p in result.predicted if p.latency.percentile is percentile]
    accuracies = (
        [p.accuracy for p in placed] + [p.accuracy_validation for p in expected] + [teacher.accuracy_validation]
    )
    latencies = [p.latency_ms for p in placed] + [p.latency.latency_ms for p in expected]
    latencies += [result.budget.latency_ms] + ([teacher_ms] if teacher_ms else [])
    # A prediction's interval is shown whole unless it is so wide that the points themselves would crowd together.
    lowest, highest = min(latencies) / 2, max(latencies) * 2
    ends = [(p.low_ms, p.high_ms) for p in placed] + [(p.latency.low_ms, p.latency.high_ms) for p in expected]
    latencies += [max(low_ms, lowest) for low_ms, _ in ends] + [min(high_ms, highest) for _, high_ms in ends]
    floor, ceiling = padded(min(accuracies), max(accuracies))
    figure = new_figure(520)
    title = f"{percentile} latency, from runs in turn with the anchor"
    log = time_axis(figure, latencies, title, budget=result.budget)
    figure.add_shape(
        type="rect",
        x0=result.budget.latency_ms,
        x1=time_range(latencies, log)[1],
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
            y=[p.accuracy_validation for p in ordered],
            mode="lines",
            line={"color": "var(--student)", "width": 1.5, "shape": "hv"},
            name="frontier of what was measured",
            hoverinfo="skip",
        )
    for kind, mark in MARKS.items():
        some = [p for p in placed if p.kind == kind]
        if some:
            _add_points(figure, some, mark, intervals=kind == "predicted")
    if expected:
        _add_expected(figure, expected, result.budget)
    add_budget_line(figure, result.budget, result.budget.latency_ms, floor, ceiling)
    if teacher_ms is not None:
        figure.add_scatter(
            x=[teacher_ms],
            y=[teacher.accuracy_validation],
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
                f"validation accuracy {validation_text(teacher.accuracy_validation, result.data.validation)}",
            ),
        )
    _mark_winner(figure, result)
    figure.update_xaxes(range=shown_range(latencies, log))
    figure.update_yaxes(title_text="accuracy (validation)", tickformat=".1%", range=[floor, ceiling])
    return figure


def _add_points(figure: go.Figure, some: Sequence[_Point], mark: Mark, intervals: bool) -> None:
    latencies = [p.latency_ms for p in some]
    figure.add_scatter(
        x=latencies,
        y=[p.accuracy for p in some],
        mode="markers",
        marker={"symbol": mark.symbol, "size": 9, "color": mark.color, "line": {"color": mark.color, "width": 1.5}},
        error_x=interval_bars(latencies, [p.low_ms for p in some], [p.high_ms for p in some], mark.color)
        if intervals
        else None,
        name=mark.name,
        hoverinfo="text",
        hovertext=[p.text for p in some],
    )


def _add_expected(figure: go.Figure, expected: Sequence[PredictedPoint], budget: Budget) -> None:
    """Students that were not trained, with both intervals."""
    mark = MARKS["expected"]
    latencies, accuracies = [p.latency.latency_ms for p in expected], [p.accuracy_validation for p in expected]
    figure.add_scatter(
        x=latencies,
        y=accuracies,
        mode="markers",
        marker={"symbol": mark.symbol, "size": 10, "color": mark.color, "line": {"color": mark.color, "width": 1.5}},
        error_x=interval_bars(
            latencies, [p.latency.low_ms for p in expected], [p.latency.high_ms for p in expected], mark.color
        ),
        error_y=interval_bars(
            accuracies,
            [p.accuracy_validation_low for p in expected],
            [p.accuracy_validation_high for p in expected],
            mark.color,
        ),
        name=mark.name,
        hoverinfo="text",
        hovertext=[
            hover_text(
                p.spec.family,
                p.spec.described,
                f"predicted {prediction_text(p.latency, budget)}",
                f"validation accuracy predicted {format_percent(p.accuracy_validation)} "
                f"({format_percent(p.accuracy_validation_low)} to "
                f"{format_percent(p.accuracy_validation_high)}, 95% interval)",
                "not trained, not measured",
            )
            for p in expected
        ],
    )


def _mark_winner(figure: go.Figure, result: BuildResult) -> None:
    """A ring round the shipped student's own point, if it was measured."""
    artifact, trial = winning_artifact(result), winning_trial(result)
    if artifact is None or trial is None:
        return
    for scheme in trial.schemes:
        accuracy = _accuracy(trial, scheme)
        if scheme.artifact.sha256 == artifact.sha256 and isinstance(scheme.latency, MeasuredLatency) and accuracy:
            figure.add_scatter(
                x=[provable_ms(scheme, goal_of(result))],
                y=[accuracy[0]],
                mode="markers+text",
                marker={"symbol": "circle-open", "size": 19, "color": "var(--student)", "line": {"width": 2}},
                text=["student"],
                textposition="top center",
                textfont={"color": "var(--student)"},
                name="the student that ships",
                hoverinfo="skip",
            )


def _points(trial: Trial, result: BuildResult) -> Iterable[_Point]:
    measured, goal, percentile = False, goal_of(result), result.budget.percentile
    for scheme in trial.schemes:
        accuracy = _accuracy(trial, scheme)
        if not isinstance(scheme.latency, MeasuredLatency) or accuracy is None:
            continue
        measured = True
        latency_ms = provable_ms(scheme, goal)
        precision = f"{scheme.scheme.label}{f', dropped: {scheme.dropped}' if scheme.dropped else ''}"
        text = trial_hover(
            trial,
            precision,
            f"{percentile} {goal.budget.in_its_unit(latency_ms)}, {'not proven' if scheme.disproven else 'measured'}",
            f"validation accuracy {validation_text(accuracy[0], result.data.validation)}, {accuracy[1]}",
        )
        kind = "dropped" if scheme.dropped else "unproven" if scheme.disproven else trial.state
        yield _Point(kind, latency_ms, accuracy[0], text, latency_ms, latency_ms)
    predicted = trial.predicted
    if measured or not isinstance(predicted, PredictedLatency) or predicted.percentile != percentile or not trial.rungs:
        return
    accuracy_torch = trial.rungs[-1].accuracy_validation
    text = trial_hover(
        trial,
        "not measured",
        f"predicted {prediction_text(predicted, goal.budget)}",
        f"validation accuracy {validation_text(accuracy_torch, result.data.validation)}, torch model",
    )
    yield _Point("predicted", predicted.latency_ms, accuracy_torch, text, predicted.low_ms, predicted.high_ms)


def _accuracy(trial: Trial, scheme: SchemeResult) -> tuple[float, str] | None:
    """Validation accuracy to place a measured file at, and whose it is: the file's own, or the torch model's where the file
    could not be run."""
    if isinstance(scheme.verification, Verified):
        return scheme.verification.accuracy_validation, "the file itself"
    return (trial.rungs[-1].accuracy_validation, "torch model; the file could not be run") if trial.rungs else None
