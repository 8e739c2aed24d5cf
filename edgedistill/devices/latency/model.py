"""Latency from structure: a non-negative linear law learnt from measurements, and how far to trust it (`law.py`)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist  # type: ignore[import-untyped]

from edgedistill.devices.latency.features import (
    ALIKE,
    CONSTANT,
    FEATURE_NAMES,
    MULTIPLY_ADDS,
    FloatArray,
    features_by_kind,
    features_of,
    unseen,
)
from edgedistill.devices.latency.law import MIN_ROWS, Law, Learnt, Part, Trust
from edgedistill.documents.specs import Frozen, Precision, Target
from edgedistill.networks.structure import OperationKind, Structure

# Shares out what features that move together explain together.
RIDGE = 1.0
PUBLISHED_RIDGE = 1e-2
# So many structures stand for a space when probes are chosen.
STAND_FOR = 2000

# The same artifact measured again in another session: median spread 0.7%, 90th percentile 11% on phones.
MEASURED_SPREAD = 0.01
# Multiply-adds alone miss by 27-30% across families on one CPU, and a published figure adds another runtime version, another
# percentile and another input pipeline: a standard deviation of 0.5 on the log scale, a factor of 1.65.
PUBLISHED_SPREAD = 0.5


@dataclass(frozen=True)
class Row:
    """One measured model: its structure and its latency in ms at the percentile that the model is for. `multiplying` is the
    share, 0 to 1, of its operators' time in convolutions and matrix products (`operators.multiplying_share`), None where
    that is not known."""

    structure: Structure
    latency_ms: float
    multiplying: float | None = None


class Contribution(Frozen):
    """The part of an estimate that one kind of operation has, in ms; without a `kind`, what every run costs."""

    kind: OperationKind | None
    latency_ms: float


class LatencyModel(Learnt):
    """Latency in ms at one percentile and precision on one device: `law` over `FEATURE_NAMES`, and `trust` in it. `seen` are
    the kinds of operations that any row had. `basis` says from what it was learnt."""

    seen: tuple[OperationKind, ...] = tuple(OperationKind)
    basis: str

    @classmethod
    def fit(cls, rows: Sequence[Row], basis: str = "") -> LatencyModel:
        """Learn from at least 3 measured models. Raises ValueError for fewer, or for latencies that are not positive and
        finite."""
        if len(rows) < MIN_ROWS:
            raise ValueError(f"a latency model needs {MIN_ROWS} measured models, here are {len(rows)}")
        matrix = np.stack([features_of(row.structure) for row in rows])
        latencies = np.array([row.latency_ms for row in rows])
        law = Law.fit(matrix, latencies, RIDGE, ALIKE, _parts(rows))
        had = {total.kind for row in rows for total in row.structure.totals}
        return cls(
            law=law,
            trust=Trust.of(law, matrix, latencies, matrix[:, MULTIPLY_ADDS].tolist(), MEASURED_SPREAD),
            seen=tuple(kind for kind in OperationKind if kind in had),
            basis=basis or f"{len(rows)} measured models",
        )

    def contributions(self, structure: Structure) -> tuple[Contribution, ...]:
        """Where the estimate comes from, the dearest first; kinds that cost nothing are left out. They add up to what
        `predict` says."""
        parts: dict[OperationKind | None, float] = {
            kind: float(np.dot(self.law.coefficients, vector)) for kind, vector in features_by_kind(structure).items()
        }
        parts[None] = self.law.estimate(features_of(structure)) - sum(parts.values())
        dearest = sorted(parts, key=lambda kind: -parts[kind])
        return tuple(Contribution(kind=kind, latency_ms=parts[kind]) for kind in dearest if parts[kind] > 0)

    def _seen(self, structure: Structure) -> tuple[FloatArray, float, float]:
        return features_of(structure), structure.multiply_adds, unseen(structure, self.seen)


def _parts(rows: Sequence[Row]) -> list[Part]:
    """What operators that multiply take of each row's latency, and what the others take."""
    found = []
    for place, row in enumerate(rows):
        if row.multiplying is not None:
            sums = np.zeros((2, len(FEATURE_NAMES)))
            for kind, vector in features_by_kind(row.structure).items():
                sums[int(kind.multiplies)] += vector
            found += [Part(place, sums[0], 1 - row.multiplying), Part(place, sums[1], row.multiplying)]
    return found


def prior_from_published(target: Target) -> dict[Precision, LatencyModel]:
    """latency = a + b * multiply-adds, both non-negative, from `target.published`; empty where nothing is published.

    Precisions are not mixed: the one with the most figures is taken, among equals the first of `target.precisions`. A
    prediction from it is never calibrated, and its interval is wide on purpose.
    """
    if not target.published:
        return {}
    counts = Counter(point.precision for point in target.published)
    own = [precision for precision in target.precisions if precision in counts]
    precision = max([*own, *counts], key=lambda p: counts[p])
    points = [point for point in target.published if point.precision is precision]
    matrix = np.zeros((len(points), len(FEATURE_NAMES)))
    matrix[:, MULTIPLY_ADDS] = [point.multiply_adds for point in points]
    matrix[:, CONSTANT] = 1.0
    latencies = np.array([point.latency_ms for point in points])
    law = Law.fit(matrix, latencies, PUBLISHED_RIDGE)
    trust = Trust.of(law, matrix, latencies, matrix[:, MULTIPLY_ADDS].tolist(), PUBLISHED_SPREAD, measured=False)
    names = ", ".join(f"{point.model} ({point.source})" for point in points)
    basis = f"{len(points)} published figures at {precision}: {names}"
    return {precision: LatencyModel(law=law, trust=trust, basis=basis)}


def choose_probes(structures: Sequence[Structure], count: int) -> tuple[int, ...]:
    """Indices of up to `count` structures to measure first: those from which all the others are nearest, by the standardised
    logs of their features. Distinct; in the order chosen, so that a prefix is a choice too.

    Greedy facility location (Nemhauser, Wolsey and Fisher 1978: at least 63% of what the best choice would bring). A
    D-optimal design, which pins down a linear law best, takes the corners of the space; there the law is least true, and
    what it learnt there misses the many in the middle: `python benchmarks/calibration_design.py` has both beside each other.
    """
    if not structures:
        return ()
    logs = np.log1p(np.stack([features_of(structure) for structure in structures]))
    scale = logs.std(axis=0)
    points = logs / np.where(scale > 1e-9, scale, 1.0)
    # Of a large space some stand for all, evenly by their order: distances between all pairs would not fit into memory.
    distances: FloatArray = cdist(points, points[:: math.ceil(len(points) / STAND_FOR)])
    nearest = np.full(distances.shape[1], 2 * float(distances.max()) + 1.0)
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        gains = np.maximum(nearest - distances, 0.0).sum(axis=1)
        gains[chosen] = -np.inf
        chosen.append(int(np.argmax(gains)))
        nearest = np.minimum(nearest, distances[chosen[-1]])
    return tuple(chosen)
