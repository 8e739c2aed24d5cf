"""The trials in the order in which they were tried: accuracy above, latency below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.documents.artifacts import Trial, Verified
from edgedistill.documents.measurements import MeasuredLatency, PredictedLatency
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.limits import Judge, trained_out
from edgedistill.outputs.explain.shown import validation_text
from edgedistill.outputs.explain.winner import winning_file, winning_trial
from edgedistill.outputs.report.plots.axes import time_axis
from edgedistill.outputs.report.plots.style import AXIS, MARKS, interval_bars, new_figure, trial_hover
from edgedistill.outputs.report.verdict import prediction_text
from edgedistill.selection.goal import provable_ms

# Of the quality beside it nothing is predicted here.
_NAMES = {"predicted": "latency predicted, not measured"}


@dataclass(frozen=True)
class _Tried:
    """A trial's best file, or its torch model and its prediction. `standing` sorts those that keep all limits to the end, as
    the winner is chosen, and is None for others; where nothing is measured, it sorts those that were trained to the end."""

    trial: Trial
    kind: str
    quality: float
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    standing: tuple[float, ...] | None
    text: str


def order(result: BuildResult) -> go.Figure | None:
    """Validation quality and latency of each trial that was trained, over its number, with the best so far as a line. None
    without one."""
    judge = Judge(result)
    tried = [_tried(trial, judge) for trial in result.trials if trial.rungs]
    if not tried:
        return None
    budget, budget_ms = result.budget, result.budget.latency_ms
    figure = new_figure(640, yaxis2=AXIS)
    latencies = [t.latency_ms for t in tried if t.latency_ms is not None] + [budget_ms]
    title = f"{budget.percentile} latency, by way of the anchor"
    if not time_axis(figure, latencies, title, "yaxis2", budget):
        time_axis(figure, [0.0, *latencies], title, "yaxis2", budget)
        figure.update_layout(yaxis2={"rangemode": "tozero"})
    measured = result.status != "unmeasured"
    _add_incumbents(figure, tried, "best so far inside all limits" if measured else "most accurate so far")
    for kind, mark in MARKS.items():
        some = [t for t in tried if t.kind == kind]
        intervals = interval_bars(
            [t.latency_ms or 0.0 for t in some],
            [t.low_ms or 0.0 for t in some],
            [t.high_ms or 0.0 for t in some],
            mark.color,
        )
        symbol = {"symbol": mark.symbol, "size": 9, "color": mark.color, "line": {"color": mark.color, "width": 1.5}}
        for axis, values in (("y", [t.quality for t in some]), ("y2", [t.latency_ms for t in some])):
            if any(value is not None for value in values):
                figure.add_scatter(
                    x=[t.trial.number for t in some],
                    y=values,
                    yaxis=axis,
                    mode="markers",
                    marker=symbol,
                    error_y=intervals if axis == "y2" and kind == "predicted" else None,
                    name=_NAMES.get(kind, mark.name),
                    legendgroup=kind,
                    showlegend=axis == "y",
                    hoverinfo="text",
                    hovertext=[t.text for t in some],
                )
    numbers = [t.trial.number for t in tried]
    ends = [min(numbers) - 0.5, max(numbers) + 0.5]
    figure.add_scatter(
        x=ends,
        y=[budget_ms, budget_ms],
        yaxis="y2",
        mode="lines",
        line={"color": "var(--budget)", "width": 1.5, "dash": "dash"},
        name=f"budget {budget.claim}",
        hoverinfo="skip",
    )
    figure.update_layout(
        xaxis={
            "title": {"text": "trial, in the order tried"},
            "anchor": "y2",
            "range": ends,
        },
        yaxis={"domain": [0.54, 1], "title": {"text": f"{result.metric} (validation)"}, "tickformat": ".1%"},
        yaxis2={"domain": [0, 0.46]},
    )
    return figure


def _add_incumbents(figure: go.Figure, tried: Sequence[_Tried], name: str) -> None:
    """The best so far of those that have a standing, as a line of steps in both panels."""
    best: _Tried | None = None
    steps: list[tuple[int, _Tried]] = []
    for one in tried:
        if one.standing is not None and (best is None or best.standing is None or one.standing < best.standing):
            best = one
        if best is not None:
            steps.append((one.trial.number, best))
    for axis, values in (("y", [b.quality for _, b in steps]), ("y2", [b.latency_ms for _, b in steps])):
        if steps:
            figure.add_scatter(
                x=[number for number, _ in steps],
                y=values,
                yaxis=axis,
                mode="lines",
                line={"color": "var(--student)", "width": 1.5, "shape": "hv"},
                name=name,
                legendgroup="incumbent",
                showlegend=axis == "y",
                hoverinfo="skip",
            )


def _tried(trial: Trial, judge: Judge) -> _Tried:
    result = judge.result
    done, budget = trained_out(trial, result), result.budget
    scheme, broken = judge.best_file(trial) or (None, ())
    if trial is winning_trial(result):
        scheme = winning_file(result) or scheme
    quality = trial.rungs[-1].quality_validation
    if scheme is None or not isinstance(scheme.latency, MeasuredLatency):
        standing = (-quality, 0.0) if done and result.status == "unmeasured" else None
        return _predicted(trial, result, quality, standing)
    whose = "torch model; the file could not be run"
    if isinstance(scheme.verification, Verified):
        quality, whose = scheme.verification.quality_validation, "the file itself"
    latency_ms = provable_ms(scheme, judge.goal)
    return _Tried(
        trial=trial,
        kind="unproven" if scheme.disproven else trial.state,
        quality=quality,
        latency_ms=latency_ms,
        low_ms=None,
        high_ms=None,
        standing=judge.standing(scheme) if done and not broken and trial.state == "complete" else None,
        text=trial_hover(
            trial,
            f"{scheme.scheme.label}, {budget.percentile} {budget.in_its_unit(latency_ms)}, "
            f"{'not proven' if scheme.disproven else 'measured'}",
            f"validation {result.metric} {validation_text(quality, result.data.validation)}, {whose}",
        ),
    )


def _predicted(trial: Trial, result: BuildResult, quality: float, standing: tuple[float, ...] | None) -> _Tried:
    predicted = trial.predicted
    told = f"validation {result.metric} {validation_text(quality, result.data.validation)}, torch model"
    if not isinstance(predicted, PredictedLatency) or predicted.percentile is not result.budget.percentile:
        text = trial_hover(trial, "latency unknown", told)
        return _Tried(trial, "predicted", quality, None, None, None, standing, text)
    return _Tried(
        trial=trial,
        kind="predicted",
        quality=quality,
        latency_ms=predicted.latency_ms,
        low_ms=predicted.low_ms,
        high_ms=predicted.high_ms,
        standing=standing,
        text=trial_hover(trial, "not measured", f"predicted {prediction_text(predicted, result.budget)}", told),
    )
