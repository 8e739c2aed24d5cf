"""Operators by time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.base.units import format_percent
from edgedistill.documents.measurements import OpTiming
from edgedistill.outputs.report.plots.style import hover_text, new_figure

TOP_OPERATORS = 15


def operators(timings: Sequence[OpTiming]) -> go.Figure | None:
    """The operators that cost most, longest first, with their share of all. None without timings."""
    total_us = sum(t.median_us for t in timings)
    if not timings or total_us <= 0:
        return None
    top = sorted(timings, key=lambda t: -t.median_us)[:TOP_OPERATORS]
    figure = new_figure(70 + 26 * len(top), bargap=0.3, showlegend=False)
    rows = list(range(len(top)))
    figure.add_bar(
        x=[t.median_us for t in top],
        y=rows,
        orientation="h",
        marker={"color": "var(--student)"},
        text=[format_percent(t.median_us / total_us) for t in top],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="text",
        hovertext=[
            hover_text(t.name, t.op_type, f"{t.median_us:.1f} µs, {format_percent(t.median_us / total_us)}")
            for t in top
        ],
    )
    figure.update_yaxes(
        tickvals=rows,
        ticktext=[escape(_shortened(t.name or t.op_type)) for t in top],
        autorange="reversed",
        showgrid=False,
        ticks="",
    )
    figure.update_xaxes(title_text="median µs", range=[0, top[0].median_us * 1.14])
    return figure


def _shortened(name: str, length: int = 24) -> str:
    """The end of a long name: graph paths differ there."""
    return name if len(name) <= length else f"…{name[-(length - 1) :]}"
