"""Successive halving: how far each candidate was trained, and how well."""

from __future__ import annotations

import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.base.units import format_percent
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.winner import winning_trial
from edgedistill.outputs.report.plots.style import MARKS, STATES, new_figure, trial_hover


def halving(result: BuildResult) -> go.Figure | None:
    """Validation quality at each rung, a line a candidate; the student's is the strong one. None without rungs."""
    climbed = [t for t in result.trials if t.rungs]
    if not climbed:
        return None
    figure = new_figure(420)
    winner = winning_trial(result)
    named: set[str] = set()
    for trial in sorted(climbed, key=lambda t: t is winner):
        ours = trial is winner
        mark = MARKS[trial.state]
        name = "the student that ships" if ours else STATES[trial.state]
        figure.add_scatter(
            x=[r.epochs for r in trial.rungs],
            y=[r.quality_validation for r in trial.rungs],
            mode="lines+markers",
            line={"color": "var(--student)" if ours else mark.color, "width": 3 if ours else 1},
            marker={"symbol": "star" if ours else mark.symbol, "size": 12 if ours else 7},
            opacity=1 if ours else 0.75,
            name=name,
            legendgroup=name,
            showlegend=name not in named,
            hoverinfo="text",
            hovertext=[
                trial_hover(trial, f"after {r.epochs} epochs {format_percent(r.quality_validation, 2)} (torch model)")
                for r in trial.rungs
            ],
        )
        named.add(name)
    epochs = sorted({r.epochs for t in climbed for r in t.rungs})
    figure.update_xaxes(title_text="epochs of training", tickvals=epochs, ticktext=[str(e) for e in epochs])
    if epochs[-1] > 3 * epochs[0] > 0:
        figure.update_xaxes(type="log")
    figure.update_yaxes(title_text=f"{result.metric} (validation)", tickformat=".1%")
    return figure
