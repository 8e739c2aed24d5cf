"""Latency as it was predicted before a trial began, against what was measured of it."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.base.units import format_percent
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Budget
from edgedistill.outputs.explain.predictions import PredictionPair, prediction_pairs
from edgedistill.outputs.report.plots.axes import shown_range, time_axis, time_range
from edgedistill.outputs.report.plots.style import Mark, interval_bars, new_figure, trial_hover
from edgedistill.outputs.report.verdict import prediction_text

_HELD = Mark("interval held the measurement", "circle", "var(--student)")
_MISSED = Mark("interval missed it", "x", "var(--budget)")


def predictions(result: BuildResult) -> go.Figure | None:
    """Predicted latency with its 90% interval against the measured one: a point on the diagonal was predicted right. None
    without a pair to compare."""
    pairs = prediction_pairs(result)
    if not pairs:
        return None
    budget = result.budget
    everything = [ms for p in pairs for ms in (p.measured_ms, p.predicted.latency_ms)]
    # An interval is shown whole unless it is so wide that the points themselves would crowd together.
    lowest, highest = min(everything) / 3, max(everything) * 3
    everything += [max(p.predicted.low_ms, lowest) for p in pairs] + [min(p.predicted.high_ms, highest) for p in pairs]
    figure = new_figure(460)
    log = time_axis(figure, everything, f"measured {budget.percentile}", budget=budget)
    time_axis(figure, everything, f"predicted {budget.percentile}", "yaxis", budget)
    low, high = time_range(everything, log)
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": "var(--quiet)", "width": 1, "dash": "dot"},
        name="predicted = measured",
        hoverinfo="skip",
    )
    for mark, some in ((_HELD, [p for p in pairs if p.held]), (_MISSED, [p for p in pairs if not p.held])):
        if some:
            _add_pairs(figure, some, mark, budget)
    figure.update_xaxes(range=shown_range(everything, log))
    figure.update_yaxes(range=shown_range(everything, log))
    return figure


def _add_pairs(figure: go.Figure, pairs: Sequence[PredictionPair], mark: Mark, budget: Budget) -> None:
    predicted = [p.predicted.latency_ms for p in pairs]
    lows, highs = [p.predicted.low_ms for p in pairs], [p.predicted.high_ms for p in pairs]
    figure.add_scatter(
        x=[p.measured_ms for p in pairs],
        y=predicted,
        mode="markers",
        marker={"symbol": mark.symbol, "size": 9, "color": mark.color},
        error_y=interval_bars(predicted, lows, highs, mark.color, thickness=1, width=3),
        name=mark.name,
        hoverinfo="text",
        hovertext=[_text(p, budget) for p in pairs],
    )


def _text(pair: PredictionPair, budget: Budget) -> str:
    error = pair.predicted.latency_ms / pair.measured_ms - 1
    return trial_hover(
        pair.trial,
        f"predicted {prediction_text(pair.predicted, budget)}",
        f"measured {budget.in_its_unit(pair.measured_ms)}: the prediction is {format_percent(abs(error))} "
        f"{'above' if error > 0 else 'below'} it",
        f"from {pair.predicted.basis}",
    )
