"""What the page of a profile tells of the roofs: by type of operator what was reached, and what they allow in all."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.base.units import format_percent
from edgedistill.devices.latency.roofs import Placed, placed
from edgedistill.documents.measurements import OpTiming
from edgedistill.documents.profiled import Roofs
from edgedistill.outputs.report.table import Cell, Column, Row, Table, cell, unknown

Pairs = tuple[tuple[str, str], ...]


def placed_operators(timings: Sequence[OpTiming], roofs: Roofs | None) -> list[Placed]:
    """The operators that have a place beside the roofs."""
    return [] if roofs is None else [found for timing in timings if (found := placed(timing, roofs)) is not None]


def roof_facts(roofs: Roofs) -> Pairs:
    """The roofs themselves."""
    return (
        ("fp32 arithmetic", f"{roofs.fp32_multiply_adds_per_s / 1e9:.1f} billion multiply-adds a second"),
        ("int8 arithmetic", f"{roofs.int8_multiply_adds_per_s / 1e9:.1f} billion multiply-adds a second"),
        ("data from memory", f"{roofs.memory_bytes_per_s / 1e9:.1f} GB a second"),
        ("data from a cache", f"{roofs.cache_bytes_per_s / 1e9:.1f} GB a second"),
    )


def roof_sentence(operators: Sequence[Placed], timings: Sequence[OpTiming]) -> str:
    """How much of the operators' time the roofs account for."""
    took_us = sum(one.timing.median_us for one in operators)
    allowed_us = sum(one.allowed_us for one in operators)
    told = (
        f"Operators held against the roofs: {len(operators)} of {len(timings)}. They took {took_us:,.0f} µs in all, of "
        f"which arithmetic and bytes account for {allowed_us:,.0f} µs "
        f"({format_percent(min(1.0, allowed_us / took_us))}) at the speed of the roofs."
    )
    left_out = " Those without known arithmetic or without a time are left out."
    return told + (left_out if len(operators) < len(timings) else "")


def roof_table(operators: Sequence[Placed]) -> Table:
    """By type, the one that costs most first: what it computed and moved in a second, and how much of its time that was at
    the roofs' speed."""
    kinds: dict[str, list[Placed]] = {}
    for one in operators:
        kinds.setdefault(one.timing.op_type, []).append(one)
    rows = sorted((_row(kind, found) for kind, found in kinds.items()), key=lambda row: -float(row.cells[2].key or 0))
    columns = (
        Column("type"),
        Column("count", number=True),
        Column("median µs", number=True),
        Column("billion multiply-adds a second", number=True),
        Column("GB a second", number=True),
        Column("of the roofs", number=True),
    )
    return Table("Operators beside the roofs", "By type of operator, the longest first", columns, tuple(rows))


def _row(kind: str, found: Sequence[Placed]) -> Row:
    took_us = sum(one.timing.median_us for one in found)
    work, moved = sum(one.multiply_adds for one in found), sum(one.bytes for one in found)
    reached = sum(one.allowed_us for one in found) / took_us
    return Row(
        (
            cell(kind),
            cell(str(len(found)), key=len(found)),
            cell(f"{took_us:.1f}", key=took_us),
            _rate(work, took_us),
            _rate(moved, took_us),
            cell(format_percent(reached), key=reached),
        )
    )


def _rate(amount: int, took_us: float) -> Cell:
    """So many billions a second; none of nothing."""
    if not amount:
        return unknown("none")
    rate = amount / took_us / 1e3
    return cell(f"{rate:.1f}", key=rate)
