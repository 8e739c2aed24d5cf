"""What is known before a search begins, from calibrations and from earlier searches."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.documents.artifacts import Fraction
from edgedistill.documents.specs import Frozen, Precision, StudentSpec
from edgedistill.networks.structure import Structure


class KnownFile(Frozen):
    """A file that was measured on `target`: its latency in ms at the goal's percentile as files are compared,
    its size, and the peak memory of a process that runs it where that is known."""

    target: str
    precision: Precision
    structure: Structure
    latency_ms: Annotated[float, Field(gt=0)]
    bytes: Annotated[int, Field(gt=0)]
    peak_memory_bytes: Annotated[int, Field(gt=0)] | None
    multiplying: Fraction | None = None


class KnownCurve(Frozen):
    """A student that was trained before with this teacher, data and recipe: validation quality by epochs."""

    spec: StudentSpec
    quality: dict[int, Fraction]


class Known(Frozen):
    """`sources` say in words where it comes from."""

    files: tuple[KnownFile, ...] = ()
    curves: tuple[KnownCurve, ...] = ()
    sources: tuple[str, ...] = ()
