"""From a structure to the vector that latency is predicted from.

Fourteen sums over the fused graph at batch 1: work by kind of kernel, bytes by who moves them, and counts, since each
operator costs its launch. What a device takes for each is what `LatencyModel` learns.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.students.structure import OperationKind as Kind
from edgedistill.students.structure import Structure, Totals, structure_of

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
)

MULTIPLY_ADDS = slice(0, 6)

_HEAVY = (Kind.CONV, Kind.POINTWISE, Kind.GROUPED, Kind.GEMM, Kind.MATMUL)
_COPIES = (Kind.POOL, Kind.COPY)


def features_of(structure: Structure) -> FloatArray:
    """The vector [14] of a structure, in the order of `FEATURE_NAMES`: multiply-adds, bytes (fp32) and counts, all
    non-negative; the last is 1. Bytes of an operation are the activations that it reads and writes; weights are a
    feature of their own, and depthwise convolutions count as heavy operators though they have bytes of their own."""
    by_kind = {total.kind: total for total in structure.totals}

    def totals(*kinds: Kind) -> list[Totals]:
        return [by_kind[kind] for kind in kinds if kind in by_kind]

    works = (Kind.CONV, Kind.POINTWISE, Kind.GROUPED, Kind.DEPTHWISE, Kind.GEMM, Kind.MATMUL)
    return np.array(
        [
            *(sum(t.multiply_adds for t in totals(kind)) for kind in works),
            _moved(totals(*_HEAVY)),
            _moved(totals(Kind.DEPTHWISE)),
            structure.weights_bytes,
            _moved(totals(Kind.ELEMENTWISE)),
            _moved(totals(*_COPIES)),
            sum(t.count for t in totals(*_HEAVY, Kind.DEPTHWISE)),
            sum(t.count for t in totals(Kind.ELEMENTWISE, *_COPIES)),
            1,
        ],
        dtype=np.float64,
    )


def features(module: nn.Module, resolution: int) -> FloatArray:
    """The vector [14] of a deployed student, or of any model in eval mode, that takes float [1, 3, R, R]. Runs it once."""
    return features_of(structure_of(module, resolution))


def _moved(totals: Iterable[Totals]) -> int:
    return sum(t.read_bytes + t.written_bytes for t in totals)
