"""Two profiles of a device beside each other: what is different around them, and by how much the same files differ."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from edgedistill.devices.latency.profile import CalibrationRow, DeviceProfile
from edgedistill.devices.sessions import changes
from edgedistill.documents.specs import Frozen, Percentile, Precision, StudentSpec

MOST_SHOWN = 5
_NOT_TOLD = ("cpus", "id", "memory")


class FileChange(Frozen):
    """A student's file that both profiles have, with its p50 in each."""

    student: str
    before_ms: float
    after_ms: float


class PrecisionChange(Frozen):
    """Of the files in one precision: how many both profiles have, and each alone; the median, the least and the largest
    ratio of their p50, the later one's to the earlier one's, null of none; and those that changed most."""

    precision: Precision
    common: Annotated[int, Field(ge=0)]
    before_alone: Annotated[int, Field(ge=0)]
    after_alone: Annotated[int, Field(ge=0)]
    ratio: float | None
    lowest: float | None
    highest: float | None
    most: tuple[FileChange, ...]


class ProfilesDiff(Frozen):
    """What is different between two profiles of devices. `differences` are of their facts and environments."""

    before: str
    after: str
    differences: tuple[str, ...]
    precisions: tuple[PrecisionChange, ...]


def compared(before: DeviceProfile, after: DeviceProfile, names: tuple[str, str]) -> ProfilesDiff:
    """`after` beside `before`, called by `names`. Their files did not run in turn: neighbours, clocks and heat count in."""
    facts = [
        f"{name}: {before.facts.get(name, 'unknown')} became {after.facts.get(name, 'unknown')}"
        for name in sorted({*before.facts, *after.facts} - set(_NOT_TOLD))
        if before.facts.get(name) != after.facts.get(name)
    ]
    around = [("target", before.target, after.target), ("threads", before.threads, after.threads)]
    told = [f"{name}: {old} became {new}" for name, old, new in around if old != new]
    precisions = [p for p in Precision if p in {*before.precisions, *after.precisions}]
    return ProfilesDiff(
        before=names[0],
        after=names[1],
        differences=tuple(dict.fromkeys([*told, *changes(before.environment, after.environment), *facts])),
        precisions=tuple(_precision(before, after, precision) for precision in precisions),
    )


def _precision(before: DeviceProfile, after: DeviceProfile, precision: Precision) -> PrecisionChange:
    old, new = _rows(before, precision), _rows(after, precision)
    common = [spec for spec in old if spec in new]
    pairs = {spec: (_p50_ms(old[spec]), _p50_ms(new[spec])) for spec in common}
    ratios = {spec: after_ms / before_ms for spec, (before_ms, after_ms) in pairs.items()}
    most = sorted(common, key=lambda spec: -abs(ratios[spec] - statistics.median(ratios.values())))[:MOST_SHOWN]
    return PrecisionChange(
        precision=precision,
        common=len(common),
        before_alone=len(old) - len(common),
        after_alone=len(new) - len(common),
        ratio=statistics.median(ratios.values()) if ratios else None,
        lowest=min(ratios.values(), default=None),
        highest=max(ratios.values(), default=None),
        most=tuple(FileChange(student=spec.label, before_ms=pairs[spec][0], after_ms=pairs[spec][1]) for spec in most),
    )


def _rows(profile: DeviceProfile, precision: Precision) -> Mapping[StudentSpec, CalibrationRow]:
    return {row.spec: row for row in profile.of(precision)}


def _p50_ms(row: CalibrationRow) -> float:
    return row.relative.in_ms(Percentile.P50)
