"""Latency over time: what the sessions of a file were like one after the other, and the machine meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgedistill.base.units import format_ms
from edgedistill.devices.stats import elapsed_s, percentile_ms
from edgedistill.documents.measurements import Moment, Profile, Proof, Session
from edgedistill.documents.specs import Percentile
from edgedistill.outputs.report.plots.style import AXIS, joined, new_figure

MOST_POINTS = 1500
"""Of the two curves together; the sessions' own figures come on top."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stretches:
    """A session thinned to stretches of runs: when each was, in seconds since the first session began, its median and its
    95th percentile in ms. The first stands at the session's first run, the last at its last one."""

    at_s: Floats
    median_ms: Floats
    p95_ms: Floats


@dataclass(frozen=True)
class Told:
    """What a panel below the latency shows of the machine: its name, the title of its axis, what it reads of a moment."""

    name: str
    axis: str
    color: str
    read: Callable[[Moment], float | None]


MACHINE = {
    "reference": Told("reference arithmetic", "reference, µs", "var(--predicted)", lambda m: m.reference_us),
    "clock": Told("clock", "clock, MHz", "var(--teacher)", lambda m: m.clock_mhz),
    "temperature": Told("temperature", "temperature, °C", "var(--budget)", lambda m: m.temperature_c),
}
"""Panels below the latency, each where the system tells it."""


def over_time(profile: Profile | None, proof: Proof | None, percentile: Percentile) -> go.Figure | None:
    """A file's sessions by the clock: stretches of runs, each session's figure beside the limit of its `proof`, if there is
    one, and what the machine was like before and after each (`MACHINE`). None without a profile."""
    if profile is None:
        return None
    sessions = profile.sessions
    begins = begins_s(sessions)
    count = max(2, MOST_POINTS // (2 * len(sessions)))
    stretches = [stretches_of(session, begin, count) for session, begin in zip(sessions, begins, strict=True)]
    share = proof is not None and proof.share
    panels = ["latency", *(["ratio"] if share else []), *(name for name in MACHINE if _told(sessions, name))]
    figure = new_figure(360 + 150 * (len(panels) - 1))
    _lay_out(figure, panels)
    _add_stretches(figure, stretches)
    ends = [float(stretches[0].at_s[0]), float(stretches[-1].at_s[-1])]
    middles = [float((s.at_s[0] + s.at_s[-1]) / 2) for s in stretches]
    if proof is not None and len(proof.values) == len(sessions):
        _add_limit(figure, ends, proof, "y2" if share else "y")
        _add_values(figure, middles, proof.values, "y2" if share else "y", percentile, proof)
    elif proof is None:
        values = [percentile_ms(session.samples_ns, percentile.fraction) for session in sessions]
        _add_values(figure, middles, values, "y", percentile, None)
    for place, panel in enumerate(panels, 1):
        if panel in MACHINE:
            _add_machine(figure, sessions, stretches, f"y{place}", panel)
    return figure


def begins_s(sessions: Sequence[Session]) -> list[float]:
    """When each session began, in seconds since the first one; where that was not recorded, at the end of the one before."""
    begins: list[float] = []
    end_s = 0.0
    for session in sessions:
        known = session.start is not None and sessions[0].start is not None
        begins.append(elapsed_s(sessions[0].start, session.start) if known else end_s)
        end_s = begins[-1] + (sum(session.samples_ns) + sum(session.anchor_ns)) / 1e9
    return begins


def run_starts_s(session: Session) -> Floats:
    """When each run of the file began, in seconds since the first run; in a session in turn with an anchor, the runs of that
    lie between."""
    own = np.asarray(session.samples_ns, np.float64)
    starts = np.cumsum(own) - own
    if session.turns:
        turns = np.asarray(session.turns)
        anchor = np.concatenate([[0.0], np.cumsum(np.asarray(session.anchor_ns, np.float64))])
        before = anchor[np.cumsum(turns[:, 1]) - turns[:, 1]]
        starts = starts + np.repeat(before, turns[:, 0])
    return np.asarray(starts / 1e9, np.float64)


def stretches_of(session: Session, begin_s: float, count: int) -> Stretches:
    """At most `count` stretches of about as many runs each."""
    samples, at_s = np.asarray(session.samples_ns), run_starts_s(session) + begin_s
    edges = np.linspace(0, len(samples), min(count, len(samples)) + 1).astype(int)
    parts = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    middles = np.array([at_s[(a + b - 1) // 2] for a, b in parts])
    middles[0], middles[-1] = at_s[0], at_s[-1]
    return Stretches(
        middles,
        np.array([percentile_ms(samples[a:b].tolist(), 0.5) for a, b in parts]),
        np.array([percentile_ms(samples[a:b].tolist(), 0.95) for a, b in parts]),
    )


def _told(sessions: Sequence[Session], panel: str) -> bool:
    """Whether the system told it at any moment."""
    read = MACHINE[panel].read
    return any(m is not None and read(m) is not None for session in sessions for m in (session.start, session.end))


def _lay_out(figure: go.Figure, panels: Sequence[str]) -> None:
    """The panels one below the other, over one axis of time."""
    titles = {"latency": "latency, ms", "ratio": "ratio", **{name: told.axis for name, told in MACHINE.items()}}
    weights = [2.0 if panel == "latency" else 1.0 for panel in panels]
    bottoms = 1 - np.cumsum(weights) / sum(weights)
    last = f"y{len(panels)}" if len(panels) > 1 else "y"
    figure.update_layout(xaxis={"title": {"text": "seconds since the first session began"}, "anchor": last})
    for place, panel in enumerate(panels):
        top = float(bottoms[place] + weights[place] / sum(weights))
        domain = [float(bottoms[place]) + (0.06 if place < len(panels) - 1 else 0.0), top]
        axis = AXIS | {"domain": domain, "title": {"text": titles[panel]}, "rangemode": "tozero"}
        if panel == "temperature":
            axis |= {"rangemode": "normal"}
        if panel == "ratio":
            axis |= {"tickformat": ".1%"}
        figure.update_layout({"yaxis" if place == 0 else f"yaxis{place + 1}": axis})


def _add_stretches(figure: go.Figure, stretches: Sequence[Stretches]) -> None:
    for name, values, width in (
        ("95th percentile of a stretch of runs", [s.p95_ms for s in stretches], 1.0),
        ("median of a stretch of runs", [s.median_ms for s in stretches], 1.6),
    ):
        figure.add_scatter(
            x=joined([s.at_s for s in stretches]),
            y=joined(values),
            mode="lines",
            line={"color": "var(--quiet)" if width == 1.0 else "var(--student)", "width": width},
            name=name,
            hoverinfo="skip",
        )


def _add_limit(figure: go.Figure, ends: Sequence[float], proof: Proof, axis: str) -> None:
    figure.add_scatter(
        x=list(ends),
        y=[proof.limit, proof.limit],
        yaxis=axis,
        mode="lines",
        line={"color": "var(--budget)", "width": 1.5, "dash": "dash"},
        name=f"limit {proof.shown(proof.limit)}",
        hoverinfo="skip",
    )


def _add_values(
    figure: go.Figure,
    at_s: Sequence[float],
    values: Sequence[float],
    axis: str,
    percentile: Percentile,
    proof: Proof | None,
) -> None:
    """Each session's own figure; one over the limit of the proof has a mark of its own."""
    figure_of = format_ms if proof is None else proof.figure
    what = f"{percentile} over the teacher's" if proof is not None and proof.share else f"{percentile} of a session"
    figure.add_scatter(
        x=list(at_s),
        y=list(values),
        yaxis=axis,
        mode="markers",
        marker={
            "symbol": ["x" if proof is not None and v > proof.limit else "circle" for v in values],
            "size": 7,
            "color": "var(--student)",
        },
        name=what,
        hoverinfo="text",
        hovertext=[f"session {number}<br>{what} {figure_of(value)}" for number, value in enumerate(values, 1)],
    )


def _add_machine(
    figure: go.Figure, sessions: Sequence[Session], stretches: Sequence[Stretches], axis: str, panel: str
) -> None:
    """What the machine was like before and after each session."""
    told = MACHINE[panel]
    known = [
        (at_s, value)
        for session, stretch in zip(sessions, stretches, strict=True)
        for moment, at_s in ((session.start, stretch.at_s[0]), (session.end, stretch.at_s[-1]))
        if moment is not None and (value := told.read(moment)) is not None
    ]
    times, values = np.array(known, np.float64).T
    figure.add_scatter(
        x=joined([times]),
        y=joined([values]),
        yaxis=axis,
        mode="lines+markers",
        marker={"symbol": "line-ns-open", "size": 5},
        line={"color": told.color, "width": 1},
        name=f"{told.name} around a session",
        hoverinfo="y",
    )
