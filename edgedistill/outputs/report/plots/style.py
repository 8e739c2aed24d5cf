"""What the plots share: look, marks, hover texts.

Colours are the style sheet's variables (`var(--student)`), which the page resolves for the light or the dark scheme. Every
text that is not ours is escaped, since Plotly reads a kind of HTML.
"""

from __future__ import annotations

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


AXIS: dict[str, Any] = {
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


def hover_text(first: str, *lines: str) -> str:
    """Lines of a hover box, escaped; the first one strong, long ones broken between words."""
    broken = [
        piece
        for line in lines
        for piece in wrap(" ".join(line.split()), _HOVER_WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
    return "<br>".join([f"<b>{escape(first)}</b>", *(escape(piece) for piece in broken)])
