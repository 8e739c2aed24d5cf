"""The plot of search_budgets.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Points below brute force's best at each budget, a line a method: the proven ones below what brute force can
    prove, the others below what it has inside by the same recorded latencies."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    figure = go.Figure()
    for name, key, title in (
        ("search", "points_below_provable", "search, files proven"),
        ("by_size", "points_below", "search without the quality model"),
        ("random", "points_below", "random search"),
        ("prediction_alone", "points_below", "prediction alone"),
    ):
        figure.add_scatter(
            x=[row["budget_ms"] for row in rows],
            y=[row[name][key] for row in rows],
            mode="lines+markers",
            name=title,
        )
    figure.update_layout(
        xaxis_title="budget, ms at p95",
        yaxis_title="points below brute force's best",
        margin={"t": 20, "b": 60},
        template="plotly_white",
    )
    figure.write_html(path, include_plotlyjs=True)
