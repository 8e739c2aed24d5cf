"""Latency run by run: how the student's samples lie beside the teacher's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgedistill.base.units import format_ms, format_percent
from edgedistill.documents.measurements import Profile
from edgedistill.documents.specs import Budget, Percentile
from edgedistill.outputs.explain.shown import sessions_text
from edgedistill.outputs.report.plots.axes import shown_range, time_axis
from edgedistill.outputs.report.plots.style import add_budget_line, joined, new_figure

SHARES = np.concatenate([np.linspace(0, 0.95, 39), np.linspace(0.95, 1, 22)[1:]])
"""Where a curve has its points: closer to one another at the tail, where budgets are decided."""
MOST_FAINT = 1400
"""Points of all faint curves of a file together: of many sessions each has fewer."""
LEGEND_WIDTH = 40
"""Characters of a line in the legend, which a phone of 360 px shows whole."""


@dataclass(frozen=True)
class Sampled:
    """A file in the plot: `name`, the samples in ns of each of its sessions, and the colour of its curves."""

    name: str
    sessions: Sequence[Sequence[int]]
    color: str


def distribution(winner: Profile | None, teacher: Profile | None, budget: Budget, limit_ms: float) -> go.Figure | None:
    """Share of runs at or below a latency, of student and teacher, with the budget at `limit_ms`. None without a profile."""
    named = (("student", winner, "var(--student)"), ("teacher", teacher, "var(--teacher)"))
    files = [Sampled(name, [s.samples_ns for s in p.sessions], color) for name, p, color in named if p is not None]
    if not files:
        return None
    figure = curves(files, budget.percentile, (limit_ms,))
    add_budget_line(figure, budget, limit_ms, 0, 1.0)
    return figure


def curves(files: Sequence[Sampled], percentile: Percentile, shown_ms: Sequence[float] = ()) -> go.Figure:
    """Share of runs at or below a latency: of each file the median over its sessions, each session faint behind it, and a
    line at `percentile`. A file's entry in the legend stands for all its curves, and files have colours of their own.
    `shown_ms` are latencies that lie inside the axis as well."""
    figure = new_figure(420)
    everything = list(shown_ms)
    for file in files:
        lines = [curve_ms(samples_ns) for samples_ns in file.sessions]
        places = _thinned(len(lines))
        entry = wrap(f"{file.name}, {sessions_text(len(lines))}", LEGEND_WIDTH, break_on_hyphens=False)
        name = "<br>".join(map(escape, entry))
        everything += [float(min(c[0] for c in lines)), float(max(c[-1] for c in lines))]
        if len(lines) > 1:
            figure.add_scatter(
                x=joined([line[places] for line in lines]),
                y=joined([SHARES[places]] * len(lines)),
                mode="lines",
                line={"color": file.color, "width": 0.8, "shape": "hv"},
                opacity=0.35,
                legendgroup=file.color,
                showlegend=False,
                hoverinfo="skip",
            )
        _add_median(figure, name, np.median(lines, axis=0), file.color)
    log = time_axis(figure, everything, "latency of one run")
    figure.add_hline(y=percentile.fraction, line={"color": "var(--quiet)", "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=1,
        xref="paper",
        xanchor="right",
        y=percentile.fraction,
        yanchor="top",
        text=percentile.value,
        showarrow=False,
        font={"color": "var(--muted)"},
    )
    figure.update_xaxes(range=shown_range(everything, log))
    figure.update_yaxes(title_text="share of runs", tickformat=".0%", range=[0, 1.04])
    return figure


def _thinned(sessions: int) -> list[int]:
    """Which of `SHARES` are points of the faint curves of so many sessions; the first and the last always are."""
    step = max(1, math.ceil(sessions * len(SHARES) / MOST_FAINT))
    return sorted({*range(0, len(SHARES), step), len(SHARES) - 1})


def _add_median(figure: go.Figure, name: str, curve: NDArray[np.float64], color: str) -> None:
    figure.add_scatter(
        x=joined([curve]),
        y=joined([SHARES]),
        mode="lines",
        line={"color": color, "width": 2.2, "shape": "hv"},
        name=name,
        legendgroup=color,
        hoverinfo="text",
        hovertext=[
            f"{name}<br>{format_percent(share)} of runs within {format_ms(ms)}"
            for ms, share in zip(curve.tolist(), SHARES.tolist(), strict=True)
        ],
    )


def curve_ms(samples_ns: Sequence[int]) -> NDArray[np.float64]:
    """The latency in ms that each of `SHARES` of the runs did not exceed, from the fastest run to the slowest: each one
    occurred."""
    found: NDArray[np.float64] = np.quantile(np.asarray(samples_ns), SHARES, method="inverted_cdf") / 1e6
    return found
