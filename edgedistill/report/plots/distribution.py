"""Latency run by run: how the student's samples lie beside the teacher's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.artifacts import Profile
from edgedistill.report.plots.style import add_budget_line, new_figure, time_axis, time_range
from edgedistill.specs import Percentile
from edgedistill.units import format_ms, format_percent

_CURVE_POINTS = 300


def distribution(
    winner: Profile | None, teacher: Profile | None, budget_ms: float, percentile: Percentile
) -> go.Figure | None:
    """Share of runs at or below a latency, a curve a session. None without a profile."""
    named = [
        (n, p, c) for n, p, c in (("student", winner, "var(--student)"), ("teacher", teacher, "var(--teacher)")) if p
    ]
    if not named:
        return None
    figure = new_figure(420)
    everything = [budget_ms]
    for name, profile, color in named:
        for number, session in enumerate(profile.sessions):
            x, y = _cumulative(session.samples_ns)
            everything += [x[0], x[-1]]
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={
                    "color": color,
                    "width": 1.8,
                    "dash": ("solid", "dash", "dot", "dashdot")[number % 4],
                    "shape": "hv",
                },
                name=f"{name}, session {number + 1}",
                hoverinfo="text",
                hovertext=[
                    f"{name}, session {number + 1}<br>{format_percent(share)} of runs within {format_ms(ms)}"
                    for ms, share in zip(x, y, strict=True)
                ],
            )
    log = time_axis(figure, everything, "latency of one run")
    left, right = time_range(everything, log)
    add_budget_line(figure, budget_ms, 0, 1.0)
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
    exponent = math.log10 if log else float
    figure.update_xaxes(range=[exponent(left), exponent(right)])
    figure.update_yaxes(title_text="share of runs", tickformat=".0%", range=[0, 1.04])
    return figure


def _cumulative(samples_ns: Sequence[int]) -> tuple[list[float], list[float]]:
    """Sorted latencies in ms with the share of runs up to each, thinned where the curve is dense and whole at its tail,
    where budgets are decided."""
    ordered = sorted(samples_ns)
    count = len(ordered)
    step = max(1, count // _CURVE_POINTS)
    kept = sorted({*range(0, count, step), *range(max(0, count - count // 20), count), count - 1})
    return [ordered[i] / 1e6 for i in kept], [(i + 1) / count for i in kept]
