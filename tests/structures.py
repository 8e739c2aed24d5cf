"""Structures of a made-up space, and latencies that are a known law of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedistill.latency.features import (
    ALIKE,
    CACHE_BYTES,
    CONSTANT,
    FEATURE_NAMES,
    MULTIPLY_ADDS,
    FloatArray,
    features_of,
)
from edgedistill.latency.model import Row
from edgedistill.students.structure import OperationKind as Kind
from edgedistill.students.structure import Structure, Totals

SIZES = np.array(
    [8e6, 5e6, 1e6, 5e5, 4e3, 1e5, 1.5e6, 4e5, 3e6, 4e4, 2e4, 30, 3, 1, 2e4, 1e4, 4e5, 3e5, 9e4, 6e4, 2e3, 2e4, 1e4, 0]
)
# What is uncached follows from the work and the weights.
SIZES[-1] = SIZES[MULTIPLY_ADDS].sum() * 3e6 / (3e6 + CACHE_BYTES)
HEAVY_COUNT = FEATURE_NAMES.index("heavy_count")
WORKS = (Kind.CONV, Kind.POINTWISE, Kind.GROUPED, Kind.DEPTHWISE, Kind.GEMM, Kind.MATMUL)


def structure_with(vector: FloatArray) -> Structure:
    """The structure whose features are `vector` [24], rounded to whole operations and bytes; elementwise bytes are those of
    plain elementwise operations alone, and uncached work is what its work and weights make it."""
    named = dict(zip(FEATURE_NAMES, vector.tolist(), strict=True))
    read = {
        Kind.CONV: named["heavy_bytes"],
        Kind.DEPTHWISE: named["depthwise_bytes"],
        Kind.ELEMENTWISE: named["elementwise_bytes"],
        Kind.COPY: named["copy_bytes"],
        Kind.TRANSCENDENTAL: named["transcendental_bytes"],
        Kind.NORMALISATION: named["normalisation_bytes"],
    }
    count = {Kind.CONV: named["heavy_count"], Kind.ELEMENTWISE: named["light_count"]}
    sublinear = {kind: named[f"{kind.value}_sublinear"] for kind in WORKS}
    sublinear[Kind.ELEMENTWISE] = named["light_sublinear"]
    totals = tuple(
        Totals(
            kind=kind,
            count=round(count.get(kind, 0)),
            multiply_adds=round(named.get(f"{kind.value}_multiply_adds", 0)),
            read_bytes=round(read.get(kind, 0)),
            written_bytes=0,
            weights_bytes=0,
            sublinear_work=sublinear.get(kind, 0.0),
        )
        for kind in Kind
        if kind is not Kind.POOL
    )
    return Structure(
        parameters=round(named["weights_bytes"] / 4),
        multiply_adds=sum(total.multiply_adds for total in totals),
        activation_bytes=round(named["heavy_bytes"] / 10),
        totals=totals,
    )


def structures(count: int, seed: int) -> list[Structure]:
    """Networks with a common scale, as width and resolution give, and a mixture of their own."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(-2, 2, (count, 1)))
    matrix = SIZES * scale
    matrix[:, :-1] *= np.exp(rng.normal(0, 0.7, (count, len(SIZES) - 1)))
    matrix[:, CONSTANT] = 1
    matrix[:, HEAVY_COUNT] = matrix[:, HEAVY_COUNT] / scale[:, 0] + 5
    return [structure_with(vector) for vector in matrix]


def matrix_of(found: Sequence[Structure]) -> FloatArray:
    """Features [n, 24]."""
    return np.stack([features_of(structure) for structure in found])


def law(seed: int, rich: bool = False) -> FloatArray:
    """Non-negative cost of each feature in ms; what counts the same thing costs about alike, and each unit has a like share
    of the whole. Those beyond the plain ones cost nothing unless `rich`."""
    rng = np.random.default_rng(seed)
    result: FloatArray = np.zeros(len(SIZES))
    result[CONSTANT] = 0.05
    for columns in ALIKE:
        result[columns] = np.exp(rng.normal(0, 0.5, len(columns))) / SIZES[columns].sum() / len(ALIKE)
    if not rich:
        result[CONSTANT + 1 :] = 0.0
    return result


def rows(found: Sequence[Structure], latencies: FloatArray) -> list[Row]:
    return [Row(structure, float(latency)) for structure, latency in zip(found, latencies, strict=True)]
