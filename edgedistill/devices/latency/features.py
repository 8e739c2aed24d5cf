"""From a structure to the vector that latency is predicted from.

Sums over the fused graph at batch 1: work, bytes, and a count, since each operator costs its launch. A small kernel fills a
processor worse than a large one, which the sublinear work of four kinds of kernels tells; work on weights that lie in the
cache from the run before is told apart from work on weights that do not. What a device takes for each is what `LatencyModel`
learns. Of the sets of features that predict families of networks left out about as well, this is among the smallest
(`python benchmarks/latency_table.py`). Some earn their place elsewhere: work on uncached weights on one core of a server,
the constant on accelerators and in published figures. Three do on students (`python benchmarks/calibrate_host.py`), most of
which are narrower than timm's models: work in whole blocks of channels; the pixels that windows read, which int8 kernels
gather one by one; the bytes of what maps elements, which some runtimes do in one plain loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from edgedistill.networks.structure import OperationKind as Kind
from edgedistill.networks.structure import Structure, Totals

FloatArray = NDArray[np.float64]

FEATURE_NAMES = (
    "convolution_sublinear",
    "pointwise_sublinear",
    "depthwise_sublinear",
    "linear_sublinear",
    "multiply_adds",
    "blocked_multiply_adds",
    "uncached_multiply_adds",
    "window_pixels",
    "weights_bytes",
    "activation_bytes",
    "slow_bytes",
    "elementwise_bytes",
    "multiplying_count",
    "constant",
)
MULTIPLY_ADDS = FEATURE_NAMES.index("multiply_adds")
CONSTANT = FEATURE_NAMES.index("constant")
ALIKE = ((0, 1, 2, 3), (4, 5, 6), (8, 9, 10, 11))
"""The features by their unit: places of those that count the same thing, of different operations."""

CACHE_BYTES = 8e6
"""Of weights of this size half is taken to be in the cache still when the next run begins."""

_KERNELS = ((Kind.CONV, Kind.GROUPED), (Kind.POINTWISE,), (Kind.DEPTHWISE,), (Kind.GEMM, Kind.MATMUL))
# An element takes tens of cycles, or is read twice.
_SLOW = (Kind.TRANSCENDENTAL, Kind.NORMALISATION)


def features_of(structure: Structure) -> FloatArray:
    """The vector [14] of a structure, in the order of `FEATURE_NAMES`: sublinear work, multiply-adds, pixels, bytes (fp32)
    and a count, all non-negative; `constant` is 1. Activation bytes are those that operations read and write; slow bytes
    are those of transcendental functions and normalisations once more, elementwise bytes those of other operations on
    elements. Uncached multiply-adds are the blocked ones once more, as far as their weights do not stay in the cache from
    one run to the next."""
    vector: FloatArray = np.sum([np.zeros(len(FEATURE_NAMES)), *features_by_kind(structure).values()], axis=0)
    vector[CONSTANT] = 1.0
    return vector


def features_by_kind(structure: Structure) -> Mapping[Kind, FloatArray]:
    """The share of each kind of operation in that vector [14]; the constant is no kind's."""
    uncached = structure.weights_bytes / (structure.weights_bytes + CACHE_BYTES)
    return {total.kind: _features(total, uncached) for total in structure.totals}


def unseen(structure: Structure, seen: Collection[Kind]) -> float:
    """The share, 0 to 1, of a structure's multiply-adds or of its activations' bytes, whichever is larger, in operations of
    kinds that are not `seen`."""
    shares = [0.0]
    for amount in (lambda total: total.multiply_adds, _moved):
        whole = sum(map(amount, structure.totals))
        shares.append(sum(amount(total) for total in structure.totals if total.kind not in seen) / max(whole, 1))
    return max(shares)


def _features(total: Totals, uncached: float) -> FloatArray:
    moved = _moved(total)
    vector = [
        *(total.sublinear_work * (total.kind in kinds) for kinds in _KERNELS),
        total.multiply_adds,
        total.blocked_multiply_adds,
        total.blocked_multiply_adds * uncached,
        total.window_pixels,
        total.weights_bytes,
        moved,
        moved * (total.kind in _SLOW),
        moved * (total.kind is Kind.ELEMENTWISE),
        total.count * total.kind.multiplies,
        0,
    ]
    return np.array(vector, dtype=np.float64)


def _moved(total: Totals) -> int:
    return total.read_bytes + total.written_bytes
