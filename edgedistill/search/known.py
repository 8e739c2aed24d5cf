"""What is known before a search begins, from calibrations and from earlier searches."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.artifacts import Fraction
from edgedistill.specs import Frozen, Precision, StudentSpec
from edgedistill.students.structure import Structure


class KnownLatency(Frozen):
    """A measured model: its latency in ms at the goal's percentile and the teacher's speed of processor."""

    precision: Precision
    structure: Structure
    latency_ms: Annotated[float, Field(gt=0)]


class KnownCurve(Frozen):
    """A student that was trained before with this teacher, data and recipe: validation accuracy by epochs."""

    spec: StudentSpec
    accuracy: dict[int, Fraction]


class Known(Frozen):
    """`sources` say in words where it comes from."""

    latencies: tuple[KnownLatency, ...] = ()
    curves: tuple[KnownCurve, ...] = ()
    sources: tuple[str, ...] = ()
