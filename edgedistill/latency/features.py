"""From a structure to the vector that latency is predicted from.

Sums over the fused graph at batch 1. The first fourteen are work by kind of kernel, bytes by who moves them, and counts,
since each operator costs its launch. The others tell apart what the first take for one thing: elementwise operations with an
exponential in them, normalisations, many small operations beside few large ones, and work on weights that lie in the cache
from the run before beside work on weights that do not. What a device takes for each is what `LatencyModel` learns, with a
ridge that shares out what its rows cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edgedistill.students.structure import OperationKind as Kind
from edgedistill.students.structure import Structure, Totals

FloatArray = NDArray[np.float64]

FEATURE_NAMES = (
    "conv_multiply_adds",
    "pointwise_multiply_adds",
    "grouped_multiply_adds",
    "depthwise_multiply_adds",
    "gemm_multiply_adds",
    "matmul_multiply_adds",
    "heavy_bytes",
    "depthwise_bytes",
    "weights_bytes",
    "elementwise_bytes",
    "copy_bytes",
    "heavy_count",
    "light_count",
    "constant",
    "transcendental_bytes",
    "normalisation_bytes",
    "conv_sublinear",
    "pointwise_sublinear",
    "grouped_sublinear",
    "depthwise_sublinear",
    "gemm_sublinear",
    "matmul_sublinear",
    "light_sublinear",
    "uncached_multiply_adds",
)

MULTIPLY_ADDS = slice(0, 6)
CONSTANT = FEATURE_NAMES.index("constant")
ALIKE = tuple(
    [place for place, name in enumerate(FEATURE_NAMES) if name.endswith(unit)]
    for unit in ("_multiply_adds", "_bytes", "_count", "_sublinear")
)
"""The features by their unit: places of those that count the same thing, of different operations."""

CACHE_BYTES = 8e6
"""Of weights of this size half is taken to be in the cache still when the next run begins. 2 to 16 MB do about as well on
calibrations of a server's core and on timm's table of a desktop's."""

_HEAVY = (Kind.CONV, Kind.POINTWISE, Kind.GROUPED, Kind.GEMM, Kind.MATMUL)
_ELEMENTWISE = (Kind.ELEMENTWISE, Kind.TRANSCENDENTAL, Kind.NORMALISATION)
_COPIES = (Kind.POOL, Kind.COPY)
_WORKS = (Kind.CONV, Kind.POINTWISE, Kind.GROUPED, Kind.DEPTHWISE, Kind.GEMM, Kind.MATMUL)


def features_of(structure: Structure) -> FloatArray:
    """The vector [24] of a structure, in the order of `FEATURE_NAMES`: multiply-adds, bytes (fp32), counts and sublinear
    work, all non-negative; `constant` is 1. Bytes of an operation are the activations that it reads and writes; weights
    are a feature of their own, and depthwise convolutions count as heavy operators though they have bytes of their own.
    Elementwise bytes are all of them, those of transcendental functions and normalisations once more apart. Uncached
    multiply-adds are all of them once more, as far as their weights do not stay in the cache from one run to the next."""
    by_kind = {total.kind: total for total in structure.totals}

    def totals(*kinds: Kind) -> list[Totals]:
        return [by_kind[kind] for kind in kinds if kind in by_kind]

    work = [sum(t.multiply_adds for t in totals(kind)) for kind in _WORKS]
    uncached = structure.weights_bytes / (structure.weights_bytes + CACHE_BYTES)
    return np.array(
        [
            *work,
            _moved(totals(*_HEAVY)),
            _moved(totals(Kind.DEPTHWISE)),
            structure.weights_bytes,
            _moved(totals(*_ELEMENTWISE)),
            _moved(totals(*_COPIES)),
            sum(t.count for t in totals(*_HEAVY, Kind.DEPTHWISE)),
            sum(t.count for t in totals(*_ELEMENTWISE, *_COPIES)),
            1,
            _moved(totals(Kind.TRANSCENDENTAL)),
            _moved(totals(Kind.NORMALISATION)),
            *(sum(t.sublinear_work for t in totals(kind)) for kind in _WORKS),
            sum(t.sublinear_work for t in totals(*_ELEMENTWISE, *_COPIES)),
            sum(work) * uncached,
        ],
        dtype=np.float64,
    )


def _moved(totals: Iterable[Totals]) -> int:
    return sum(t.read_bytes + t.written_bytes for t in totals)
