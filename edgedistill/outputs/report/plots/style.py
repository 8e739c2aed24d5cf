"""What the plots share: look, axes, marks, hover texts.

Colours are the style sheet's variables (`var(--student)`), which the page resolves for the light or the dark scheme. Every
text that is not ours is escaped, since Plotly reads a kind of HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgedistill.documents.artifacts import Trial
from edgedistill.documents.specs import Budget

STATES = {
    "complete": "all rungs",
    "pruned": "pruned",
    "over_budget": "rejected",
    "failed": "failed",
}
_LOG_FROM_RATIO = 6.0
_HOVER_WIDTH = 46


@dataclass(frozen=True)
class Mark:
    """How one kind of point is drawn: each differs in shape as well as in colour."""

    name: str
    symbol: str
    color: str


MARKS = {
    "complete": Mark("measured, went through all rungs", "circle", "var(--student)"),
    "pruned": Mark("measured, pruned", "triangle-down", "var(--quiet)"),
    "over_budget": Mark("measured, rejected", "square", "var(--budget)"),
    "unproven": Mark("measured, not proven", "diamond-x", "var(--budget)"),
    "failed": Mark("measured, then failed", "cross", "var(--quiet)"),
    "dropped": Mark("measured, precision dropped", "x-thin-open", "var(--quiet)"),
    "predicted": Mark("predicted, not measured", "circle-open", "var(--predicted)"),
    "expected": Mark("not trained: latency and accuracy predicted", "diamond-open", "var(--predicted)"),
}


AXIS = {
    "gridcolor": "var(--grid)",
    "linecolor": "var(--line)",
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 12},
    "ticks": "outside",
    "tickcolor": "var(--line)",
}


def new_figure(height: int, **layout: Any) -> go.Figure:
    figure = go.Figure(layout={"template": go.layout.Template()})
    figure.update_layout(
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "var(--sans)", "size": 13, "color": "var(--text)"},
        margin={"l": 8, "r": 12, "t": 28, "b": 8},
        hoverlabel={
            "bgcolor": "var(--panel)",
            "bordercolor": "var(--line)",
            "font": {"color": "var(--text)", "family": "var(--sans)", "size": 13},
            "align": "left",
        },
        hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "var(--quiet)", "activecolor": "var(--text)"},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        xaxis=AXIS,
        yaxis=AXIS,
    )
    figure.update_layout(**layout)
    return figure


def trial_hover(trial: Trial, *lines: str) -> str:
    spec = trial.spec
    epochs = f"{trial.rungs[-1].epochs} epochs, " if trial.rungs else ""
    return hover_text(
        f"trial {trial.number}: {spec.family}",
        spec.described,
        f"{trial.parameters:,} parameters, {trial.multiply_adds:,} multiply-adds",
        *lines,
        f"{epochs}{STATES[trial.state]}",
        trial.reason,
    )


def add_budget_line(figure: go.Figure, budget: Budget, at_ms: float, low: float, high: float) -> None:
    figure.add_scatter(
        x=[at_ms, at_ms],
        y=[low, high],
        mode="lines",
        line={"color": "var(--budget)", "width": 1.5, "dash": "dash"},
        name=f"budget {budget.claim}",
        hoverinfo="text",
        hovertext=f"budget {budget.claim}",
    )


def time_axis(
    figure: go.Figure, latencies_ms: Sequence[float], title: str, axis: str = "xaxis", budget: Budget | None = None
) -> bool:
    """Make `axis`, by plotly's name, one of latency in ms, logarithmic where the values lie far apart. Where `budget` is a
    share of the teacher's latency, the ticks tell such shares. Returns whether it is logarithmic."""
    log = min(latencies_ms) > 0 and max(latencies_ms) / min(latencies_ms) > _LOG_FROM_RATIO
    unit, unit_ms = "ms", 1.0
    if budget is not None and budget.share_of_teacher is not None:
        unit, unit_ms = "% of the teacher's", budget.latency_ms / (100 * budget.share_of_teacher)
    settings: dict[str, Any] = {"title": {"text": f"{title}, {unit}{' (log scale)' if log else ''}"}}
    if log:
        settings["type"] = "log"
    if log or unit != "ms":
        low, high = (end / unit_ms for end in time_range(latencies_ms, log))
        ticks = _log_ticks(low, high) if log else _even_ticks(low, high)
        settings |= {"tickvals": [tick * unit_ms for tick in ticks], "ticktext": [f"{tick:g}" for tick in ticks]}
    figure.update_layout({axis: settings})
    return log


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]


def _even_ticks(low: float, high: float) -> list[float]:
    """Four to eleven round numbers."""
    size = 10.0 ** math.floor(math.log10(high - low))
    step = next(part * size for part in (1, 0.5, 0.2) if high - low >= 4 * part * size)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def time_range(latencies_ms: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(latencies_ms), max(latencies_ms)
    if log:
        margin = (high / low) ** 0.06
        return low / margin, high * margin
    return max(0.0, low - 0.08 * (high - low or high)), high + 0.08 * (high - low or high)


def shown_range(latencies_ms: Sequence[float], log: bool) -> list[float]:
    """`time_range` as plotly takes it: exponents on a logarithmic axis."""
    return [math.log10(end) if log else end for end in time_range(latencies_ms, log)]


def interval_bars(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float], color: str, **drawn: float
) -> dict[str, Any]:
    """Bars from `lows` to `highs` through `values`, for `error_x` or `error_y`; `drawn` are other sizes than the usual."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, high in zip(values, highs, strict=True)],
        "arrayminus": [value - low for value, low in zip(values, lows, strict=True)],
        "color": color,
        "thickness": 0.8,
        "width": 2,
        **drawn,
    }


def joined(curves: Sequence[NDArray[np.float64]]) -> list[float | None]:
    """Several curves as the points of one line with gaps between them, in seven significant digits: more are not seen, and
    take twice the space."""
    points: list[float | None] = []
    for curve in curves:
        points += [*(float(f"{value:.7g}") for value in curve.tolist()), None]
    return points[:-1]


def padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.08 * (high - low) or 0.01
    return low - margin, high + margin


def hover_text(first: str, *lines: str) -> str:
    """Lines of a hover box, escaped; the first one strong, long ones broken between words."""
    broken = [
        piece
        for line in lines
        for piece in wrap(" ".join(line.split()), _HOVER_WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
    return "<br>".join([f"<b>{escape(first)}</b>", *(escape(piece) for piece in broken)])
