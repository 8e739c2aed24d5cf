"""Structures of a made-up space, and latencies that are a known law of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedistill.devices.latency.features import (
    ALIKE,
    CACHE_BYTES,
    CONSTANT,
    FEATURE_NAMES,
    FloatArray,
    features_of,
)
from edgedistill.devices.latency.model import Row
from edgedistill.networks.structure import OperationKind as Kind
from edgedistill.networks.structure import Structure, Totals

SIZES = np.array([4e5, 3e5, 6e4, 2e3, 1.5e7, 1.8e7, 0, 4e5, 3e6, 2e6, 4e5, 2e5, 30, 1])
# What is uncached follows from the work and the weights.
BLOCKED = FEATURE_NAMES.index("blocked_multiply_adds")
UNCACHED = FEATURE_NAMES.index("uncached_multiply_adds")
SIZES[UNCACHED] = SIZES[BLOCKED] * 3e6 / (3e6 + CACHE_BYTES)
COUNT = FEATURE_NAMES.index("multiplying_count")


def total(kind: Kind, **amounts: float) -> Totals:
    """Sums over the operations of a kind, rounded; those that are not named are none."""
    whole = {
        name: round(amounts.get(name, 0)) for name in Totals.model_fields if name not in ("kind", "sublinear_work")
    }
    return Totals.model_validate({"kind": kind, "sublinear_work": amounts.get("sublinear_work", 0.0), **whole})


def structure_with(vector: FloatArray) -> Structure:
    """The structure whose features are `vector` [14], rounded to whole operations and bytes; all its multiply-adds are
    convolutions'. Uncached work is what its work and weights make it."""
    named = dict(zip(FEATURE_NAMES, vector.tolist(), strict=True))
    convolutions = total(
        Kind.CONV,
        sublinear_work=named["convolution_sublinear"],
        multiply_adds=named["multiply_adds"],
        blocked_multiply_adds=named["blocked_multiply_adds"],
        window_pixels=named["window_pixels"],
        weights_bytes=named["weights_bytes"],
        read_bytes=max(named["activation_bytes"] - named["slow_bytes"] - named["elementwise_bytes"], 0.0),
        count=named["multiplying_count"],
    )
    names = {Kind.POINTWISE: "pointwise", Kind.DEPTHWISE: "depthwise", Kind.GEMM: "linear"}
    others = [total(kind, sublinear_work=named[f"{name}_sublinear"]) for kind, name in names.items()]
    mapping = {Kind.TRANSCENDENTAL: "slow_bytes", Kind.ELEMENTWISE: "elementwise_bytes"}
    others += [total(kind, read_bytes=named[name]) for kind, name in mapping.items()]
    return structure_of_totals([convolutions, *others])


def structure_of_totals(totals: Sequence[Totals]) -> Structure:
    return Structure(
        parameters=sum(each.weights_bytes for each in totals) // 4,
        multiply_adds=sum(each.multiply_adds for each in totals),
        activation_bytes=sum(each.read_bytes for each in totals) // 10,
        totals=tuple(totals),
    )


def structures(count: int, seed: int) -> list[Structure]:
    """Networks with a common scale, as width and resolution give, and a mixture of their own."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(-2, 2, (count, 1)))
    matrix = SIZES * scale * np.exp(rng.normal(0, 0.7, (count, len(SIZES))))
    matrix[:, CONSTANT] = 1
    matrix[:, COUNT] = matrix[:, COUNT] / scale[:, 0] + 5
    return [structure_with(vector) for vector in matrix]


def matrix_of(found: Sequence[Structure]) -> FloatArray:
    """Features [n, 14]."""
    return np.stack([features_of(structure) for structure in found])


def law(seed: int) -> FloatArray:
    """Non-negative cost of each feature in ms; what counts the same thing costs about alike, and each unit has a like share
    of the whole."""
    rng = np.random.default_rng(seed)
    result: FloatArray = np.zeros(len(SIZES))
    result[CONSTANT], result[COUNT] = 0.05, 0.3 / SIZES[COUNT]
    for group in ALIKE:
        columns = list(group)
        result[columns] = np.exp(rng.normal(0, 0.5, len(columns))) / SIZES[columns].sum() / (len(ALIKE) + 1)
    return result


def rows(found: Sequence[Structure], latencies: FloatArray) -> list[Row]:
    return [Row(structure, float(latency)) for structure, latency in zip(found, latencies, strict=True)]
