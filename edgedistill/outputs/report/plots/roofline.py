"""Operators beside the roofs: how fast each one computed, by how much it computes for each byte that it touches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]

from edgedistill.base.units import format_percent
from edgedistill.devices.latency.roofs import Placed, integer
from edgedistill.documents.profiled import Roofs
from edgedistill.outputs.report.plots.style import hover_text, joined, new_figure

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")
SMALLEST, LARGEST = 6.0, 26.0
"""Diameters of the marks of the fastest and of the slowest operator, in pixels: areas are as their times."""


def roofline(operators: Sequence[Placed], roofs: Roofs) -> go.Figure | None:
    """Multiply-adds in a second over multiply-adds for each byte, a mark an operator, below the roofs. Operators without
    multiply-adds have no place in it. None where none has one."""
    drawn = [placed for placed in operators if placed.multiply_adds > 0]
    if not drawn:
        return None
    figure = new_figure(460)
    intensities = [placed.intensity for placed in drawn]
    ends = (min(intensities) / 3, max(*intensities, *_ridges(roofs)) * 3)
    for name, peak, dash in _peaks(drawn, roofs):
        for place, (of, bandwidth) in enumerate(_bandwidths(roofs)):
            at = np.geomspace(*ends, 60)
            figure.add_scatter(
                x=joined([at]),
                y=joined([np.minimum(peak, at * bandwidth) / 1e9]),
                mode="lines",
                line={"color": "var(--quiet)", "width": 1.4, "dash": "dot" if place else dash},
                name=f"{name} roof, data from {of}",
                hoverinfo="skip",
            )
    longest = max(placed.timing.median_us for placed in drawn)
    for place, kind in enumerate(dict.fromkeys(placed.timing.op_type for placed in drawn)):
        of_kind = [placed for placed in drawn if placed.timing.op_type == kind]
        figure.add_scatter(
            x=[placed.intensity for placed in of_kind],
            y=[placed.multiply_adds / placed.timing.median_us / 1e3 for placed in of_kind],
            mode="markers",
            marker={
                "symbol": SYMBOLS[place % len(SYMBOLS)],
                "size": [max(SMALLEST, LARGEST * math.sqrt(p.timing.median_us / longest)) for p in of_kind],
                "color": "var(--student)",
                "opacity": 0.7,
                "line": {"color": "var(--page)", "width": 1},
            },
            name=hover_text(kind).removeprefix("<b>").removesuffix("</b>"),
            hoverinfo="text",
            hovertext=[_hover(placed) for placed in of_kind],
        )
    figure.update_xaxes(title_text="multiply-adds for each byte (log)", type="log", dtick=1)
    figure.update_yaxes(title_text="billion multiply-adds a second (log)", type="log", dtick=1)
    return figure


def _hover(placed: Placed) -> str:
    timing = placed.timing
    return hover_text(
        timing.name or timing.op_type,
        timing.op_type,
        f"{timing.median_us:.1f} µs for {placed.multiply_adds:,} multiply-adds and {placed.bytes:,} bytes",
        f"{format_percent(placed.reached)} of what the roofs allow",
    )


def _peaks(drawn: Sequence[Placed], roofs: Roofs) -> list[tuple[str, float, str]]:
    """The roofs of arithmetic that the operators have: name, multiply-adds a second, how it is drawn."""
    kinds = {integer(placed.timing.op_type) for placed in drawn}
    peaks = [("fp32", roofs.fp32_multiply_adds_per_s, "solid")] if False in kinds else []
    return peaks + ([("int8", roofs.int8_multiply_adds_per_s, "dash")] if True in kinds else [])


def _bandwidths(roofs: Roofs) -> tuple[tuple[str, float], ...]:
    return (("a cache", roofs.cache_bytes_per_s), ("memory", roofs.memory_bytes_per_s))


def _ridges(roofs: Roofs) -> list[float]:
    """Where arithmetic begins to be what limits."""
    peak = max(roofs.fp32_multiply_adds_per_s, roofs.int8_multiply_adds_per_s)
    return [peak / bandwidth for _, bandwidth in _bandwidths(roofs)]
