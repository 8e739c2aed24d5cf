"""What changed since the last profile of a file, as facts and as a table."""

from __future__ import annotations

import statistics

from edgedistill.base.units import format_bytes, format_ms
from edgedistill.documents.measurements import Profile
from edgedistill.documents.profiled import OperatorChange, Since
from edgedistill.outputs.report.proof_tables import moment_text
from edgedistill.outputs.report.table import Cell, Column, Row, Table, cell, known, unknown

Pairs = tuple[tuple[str, str], ...]


def since_facts(since: Since, profile: Profile) -> Pairs:
    """When the last one was, what it measured, and what is different around it."""
    last, sessions = since.last, profile.sessions
    memory = [known(peak, format_bytes) for peak in (last.peak_memory_bytes, profile.peak_memory_bytes)]
    load_ms = statistics.median_high(session.load_ms for session in sessions)
    return (
        ("last profile", f"{moment_text(last.measured_at)}, by edgedistill {last.edgedistill_version}"),
        ("p50", f"{format_ms(statistics.geometric_mean(last.p50_ms))} then, {_ratio(since.p50_ratio, since.interval)}"),
        ("p95", f"{format_ms(statistics.geometric_mean(last.p95_ms))} then, {_ratio(since.p95_ratio, None)}"),
        ("load", f"{format_ms(last.load_ms)} then, {format_ms(load_ms)} now"),
        ("peak memory", f"{memory[0]} then, {memory[1]} now"),
        *(("different", what) for what in since.environment or ("nothing that is recorded",)),
    )


def _ratio(ratio: float, interval: tuple[float, float] | None) -> str:
    spread = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f}, 95% interval)"
    return f"{ratio:.3f} times that now{spread}"


def operator_table(since: Since) -> Table:
    """The operators whose medians differ most."""
    columns = (
        Column("operator", wide=True),
        Column("type"),
        Column("then, µs", number=True),
        Column("now, µs", number=True),
        Column("difference, µs", number=True),
    )
    rows = tuple(Row(_cells(change)) for change in since.operators)
    return Table("Operators that changed", "The largest differences first", columns, rows)


def _cells(change: OperatorChange) -> tuple[Cell, ...]:
    difference = (change.now_us or 0) - (change.before_us or 0)
    return (
        cell(change.name),
        cell(change.op_type),
        _time(change.before_us),
        _time(change.now_us),
        cell(f"{difference:+.1f}", key=difference),
    )


def _time(us: float | None) -> Cell:
    return unknown("none") if us is None else cell(f"{us:.1f}", key=us)
