"""The page of one file's profile: one HTML file, no network, with every session and every operator."""

from __future__ import annotations

import statistics
from pathlib import Path

from edgedistill.base.store import write_atomic
from edgedistill.base.units import beginning, format_bytes, format_ms
from edgedistill.base.versions import __version__
from edgedistill.documents.measurements import MeasuredLatency, Profile
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.specs import Percentile
from edgedistill.outputs.explain.profiled import comparison_sentence, gate_sentence, since_sentence
from edgedistill.outputs.explain.shown import sessions_text
from edgedistill.outputs.report import operator_tables, proof_tables, roof_tables, since_tables
from edgedistill.outputs.report.page import rendered
from edgedistill.outputs.report.plots.distribution import Sampled, curves
from edgedistill.outputs.report.plots.operators import TOP_OPERATORS, operators
from edgedistill.outputs.report.plots.over_time import over_time
from edgedistill.outputs.report.plots.roofline import roofline
from edgedistill.outputs.report.tables import environment_facts
from edgedistill.outputs.report.verdict import Tile

SHOWN = Percentile.P95
"""What a session's figure is."""


def render_profile(result: ProfileResult, profile: Profile) -> str:
    """The page as HTML text. Names may hold anything."""
    timings, sessions = profile.op_timings, profile.sessions
    placed = roof_tables.placed_operators(timings, result.roofs)
    own = Path(result.path).name
    other = Path(result.comparison.other).name if result.comparison else ""
    names = (own, other if other != own else result.comparison.other) if result.comparison else (own,)
    return rendered(
        "profile.html.j2",
        result=result,
        profile=profile,
        name=own,
        size=format_bytes(result.bytes),
        version=__version__,
        tiles=_tiles(result, profile),
        percentile=SHOWN,
        figures={
            "over_time": over_time(profile, None, SHOWN),
            "distribution": curves(_sampled(names, profile), SHOWN),
            "operators": operators(timings),
            "roofline": None if result.roofs is None else roofline(placed, result.roofs),
        },
        told=[
            *([comparison_sentence(result.path, result.comparison)] if result.comparison else []),
            *([beginning(since_sentence(result.since))] if result.since else []),
        ],
        gate=gate_sentence(result.gate) if result.gate else "",
        taken=sessions_text(len(sessions)),
        rows=proof_tables.session_rows(own, profile, SHOWN),
        machine_rows=proof_tables.sessions_machine(sessions),
        shown_operators=min(len(timings), TOP_OPERATORS),
        clock=operator_tables.clock_text(profile) if timings else "",
        types=operator_tables.type_table(timings),
        layers=operator_tables.layer_table(timings),
        units=operator_tables.unit_facts(timings),
        roofs=roof_tables.roof_facts(result.roofs) if result.roofs else (),
        roofs_told=roof_tables.roof_sentence(placed, timings) if placed else "",
        roof_table=roof_tables.roof_table(placed) if placed else None,
        since=since_tables.since_facts(result.since, profile) if result.since else (),
        since_operators=since_tables.operator_table(result.since) if result.since and result.since.operators else None,
        environment=(
            ("file", result.path),
            ("SHA-256", result.sha256),
            *((("operations", result.fallbacks.sentence),) if result.fallbacks else ()),
            *environment_facts(profile.environment),
        ),
    )


def _sampled(names: tuple[str, ...], profile: Profile) -> list[Sampled]:
    """The file, and the one that it ran in turn with."""
    samples = [
        [session.samples_ns for session in profile.sessions],
        [session.anchor_ns for session in profile.sessions],
    ]
    colors = ("var(--student)", "var(--teacher)")
    return [Sampled(*one) for one in zip(names, samples, colors, strict=False)]


def _tiles(result: ProfileResult, profile: Profile) -> list[Tile]:
    """The figures that the page opens with."""
    tiles = []
    if isinstance(result.latency, MeasuredLatency):
        latency, sessions = result.latency, profile.sessions
        for percentile in Percentile:
            values = [proof_tables.session_ms(session, percentile) for session in sessions]
            note = f"{format_ms(min(values))} to {format_ms(max(values))} in {sessions_text(len(values))}"
            tiles.append(Tile(percentile.value, format_ms(latency.at(percentile)), note))
    if result.load_ms is not None:
        first = "" if result.first_run_ms is None else f"then the first run takes {format_ms(result.first_run_ms)}"
        tiles.append(Tile("load", format_ms(result.load_ms), first))
    if result.picture_to_label_ms is not None:
        tiles.append(Tile("picture to label", format_ms(result.picture_to_label_ms), "from 640 x 480 decoded pixels"))
    if result.peak_memory_bytes is not None:
        own = [s.model_memory_bytes for s in profile.sessions if s.model_memory_bytes is not None]
        note = f"{format_bytes(statistics.median_high(own))} of it the model's" if own else ""
        tiles.append(Tile("peak memory", format_bytes(result.peak_memory_bytes), note))
    return tiles


def write_profile_report(path: Path, result: ProfileResult, profile: Profile) -> None:
    """Write the page, whole or not at all."""
    write_atomic(path, render_profile(result, profile))
