"""The tables of operators: by type and by layer, and how fine their times are."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.base.units import format_percent
from edgedistill.documents.measurements import OpTiming, Profile
from edgedistill.outputs.explain.operators import operator_kinds
from edgedistill.outputs.report.table import Column, Row, Table, cell

_ROUGH_US = 2.0
"""Up to here a clock of whole microseconds tells an operator's time to no better than half of it."""
_TIMES = (Column("median µs", number=True), Column("share", number=True))


def type_table(timings: Sequence[OpTiming]) -> Table:
    """Time by type of operator, the longest first."""
    rows = tuple(
        Row(
            (
                cell(kind.name),
                cell(str(kind.count), key=kind.count),
                cell(f"{kind.total_us:.1f}", key=kind.total_us),
                cell(format_percent(kind.share), key=kind.share),
            )
        )
        for kind in operator_kinds(timings)
    )
    columns = (Column("type"), Column("count", number=True), *_TIMES)
    return Table("Operators by type", "By type of operator, the longest first", columns, rows)


def layer_table(timings: Sequence[OpTiming]) -> Table:
    """Time by layer, in the order in which they run."""
    everything_us = sum(t.median_us for t in timings)
    rows = []
    for number, (layer, operators) in enumerate(layers(timings).items(), 1):
        total_us = sum(t.median_us for t in operators)
        share = total_us / everything_us if everything_us else 0.0
        rows.append(
            Row(
                (
                    cell(str(number), key=number),
                    cell(layer),
                    cell(", ".join(f"{t.op_type} {t.median_us:.1f}" for t in operators)),
                    cell(f"{total_us:.1f}", key=total_us),
                    cell(format_percent(share), key=share),
                )
            )
        )
    columns = (Column("no.", number=True), Column("layer"), Column("operators, µs", wide=True), *_TIMES)
    return Table("Operators by layer", "By layer, in the order of execution", columns, tuple(rows), head=1, tall=True)


def layers(timings: Sequence[OpTiming]) -> dict[str, list[OpTiming]]:
    """Operators by the layer that they belong to: their name up to its last part. An operator whose name has one part is a
    layer of its own, and so is each that a runtime calls one."""
    found: dict[str, list[OpTiming]] = {}
    for timing in timings:
        whole = timing.name or timing.op_type
        layer = whole if timing.op_type == "layer" else whole.rpartition("/")[0] or whole
        found.setdefault(layer, []).append(timing)
    return found


def unit_facts(timings: Sequence[OpTiming]) -> tuple[tuple[str, str], ...]:
    """Of each unit that computes operators, as far as the runtime tells: how many, and their share of the time."""
    everything_us = sum(t.median_us for t in timings)
    found: dict[str, list[float]] = {}
    for timing in timings:
        if timing.unit:
            found.setdefault(timing.unit, []).append(timing.median_us)
    return tuple(
        (
            unit,
            f"{len(times)} operators, {format_percent(sum(times) / everything_us if everything_us else 0.0)} of the time",
        )
        for unit, times in sorted(found.items(), key=lambda entry: -sum(entry[1]))
    )


def clock_text(profile: Profile) -> str:
    """How fine the runtime's times of single operators are, by the times themselves: medians of whole microseconds are whole
    ones or halves."""
    runtime, times_us = profile.environment.runtime, [t.median_us for t in profile.op_timings]
    if any(2 * us % 1 for us in times_us):
        return f"{runtime} gives times finer than 1 µs; the resolution of its clock is not recorded."
    rough = sum(us <= _ROUGH_US for us in times_us)
    told = f"The clock of {runtime} counts whole microseconds: each time may be off by 1 µs."
    if not rough:
        return told
    return f"{told} {rough} of {len(times_us)} operators took {_ROUGH_US:g} µs or less, so their shares are rough."
