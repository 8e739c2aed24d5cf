"""Axes of the plots: the range that they show, the unit in which they tell latency, and what they leave outside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.documents.specs import Budget
from edgedistill.outputs.report.plots.style import AXIS

_LOG_FROM_RATIO = 6.0
_FEWEST = 4
"""Of fewer values none is an outlier."""
_FENCE = 1.5
"""By how many times the distance of the quartiles a value lies outside them that is an outlier (Tukey 1977)."""
_SQUASHED = 2.0
"""Outliers stay outside an axis only where they would make it more than so many times as long."""


def without_outliers(
    values: Sequence[float], needed: Sequence[float], least: float, scale: Callable[[float], float] = float
) -> tuple[float, float]:
    """The ends of an axis that holds all of `needed`, and of `values` all but outliers that would squash the others.
    Distances are those of `scale`; an axis shorter than `least` counts as that long. Needs one value of either."""

    def length(ends: tuple[float, float]) -> float:
        return scale(ends[1]) - scale(ends[0])

    everything = [*values, *needed]
    whole = (min(everything), max(everything))
    if len(values) < _FEWEST:
        return whole
    scaled = [scale(value) for value in values]
    first, third = np.quantile(scaled, [0.25, 0.75]).tolist()
    reach = _FENCE * (third - first)
    usual = [v for v, s in zip(values, scaled, strict=True) if first - reach <= s <= third + reach]
    inside = [*usual, *needed]
    kept = (min(inside), max(inside))
    return kept if length(whole) > _SQUASHED * max(length(kept), least) else whole


def time_axis(
    figure: go.Figure, latencies_ms: Sequence[float], title: str, axis: str = "xaxis", budget: Budget | None = None
) -> bool:
    """Make `axis`, by plotly's name, one of latency (`time_settings`). Returns whether it is logarithmic."""
    settings = time_settings(latencies_ms, title, budget)
    figure.update_layout({axis: settings})
    return bool(settings["type"] == "log")


def time_settings(latencies_ms: Sequence[float], title: str, budget: Budget | None = None) -> dict[str, Any]:
    """An axis of latency in ms as plotly takes it, logarithmic where the values lie far apart. Where `budget` is a share of
    the teacher's latency, the ticks tell such shares."""
    log = min(latencies_ms) > 0 and max(latencies_ms) / min(latencies_ms) > _LOG_FROM_RATIO
    unit, unit_ms = "ms", 1.0
    if budget is not None and budget.share_of_teacher is not None:
        unit, unit_ms = "% of the teacher's", budget.latency_ms / (100 * budget.share_of_teacher)
    settings: dict[str, Any] = {
        "title": {**AXIS["title"], "text": f"{title}, {unit}{' (log)' if log else ''}"},
        "type": "log" if log else "linear",
        "tickvals": None,
        "ticktext": None,
    }
    if log or unit != "ms":
        low, high = (end / unit_ms for end in time_range(latencies_ms, log))
        ticks = _log_ticks(low, high) if log else _even_ticks(low, high)
        settings |= {"tickvals": [tick * unit_ms for tick in ticks], "ticktext": [f"{tick:g}" for tick in ticks]}
    return settings


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


def padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.08 * (high - low) or 0.01
    return low - margin, high + margin
