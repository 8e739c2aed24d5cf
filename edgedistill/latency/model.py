"""Latency from structure: a non-negative linear law learnt from measurements, what it misses, and how far to trust it.

`law.py` has the law and the trust, `residual.py` what is learnt on top from many rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import model_validator

from edgedistill.latency.features import ALIKE, CONSTANT, FEATURE_NAMES, MULTIPLY_ADDS, FloatArray, features_of
from edgedistill.latency.law import MIN_ROWS, Law, Trust
from edgedistill.latency.residual import Residual
from edgedistill.latency.stored import read_document
from edgedistill.specs import Frozen, Precision, PublishedLatency, Target
from edgedistill.store import write_atomic
from edgedistill.students.structure import Structure

# Shares out what features that move together explain together.
RIDGE = 1.0
PUBLISHED_RIDGE = 1e-2
# So many structures stand for a space when probes are chosen.
STAND_FOR = 2000
# From so many rows on a Gaussian process learns what the law misses. `python benchmarks/latency_table.py --fit N` and
# `python benchmarks/calibration_design.py` have both beside each other: it gains little below 80 rows, and loses nothing.
RESIDUAL_ROWS = 16

# The same artifact measured again in another session: median spread 0.7%, 90th percentile 11% on phones.
MEASURED_SPREAD = 0.01
# Multiply-adds alone miss by 27-30% across families on one CPU, and a published figure adds another runtime version, another
# percentile and another input pipeline: a standard deviation of 0.5 on the log scale, a factor of 1.65.
PUBLISHED_SPREAD = 0.5


class Cost(StrEnum):
    """What a network's time goes into, as the latency model tells it apart."""

    CONVOLUTIONS = "convolutions"
    POINTWISE = "1 x 1 convolutions"
    GROUPED = "grouped convolutions"
    DEPTHWISE = "depthwise convolutions"
    LINEAR = "linear layers"
    PRODUCTS = "matrix products of activations"
    TRAFFIC = "activations of convolutions and matrix products"
    WEIGHTS = "reading weights"
    ELEMENTWISE = "elementwise operations"
    TRANSCENDENTAL = "exponentials and powers"
    NORMALISATION = "normalisations"
    COPIES = "copies and pooling"
    STARTING = "starting operators"
    FIXED = "fixed cost of a run"


_COSTS = {
    "conv_multiply_adds": Cost.CONVOLUTIONS,
    "pointwise_multiply_adds": Cost.POINTWISE,
    "grouped_multiply_adds": Cost.GROUPED,
    "depthwise_multiply_adds": Cost.DEPTHWISE,
    "gemm_multiply_adds": Cost.LINEAR,
    "matmul_multiply_adds": Cost.PRODUCTS,
    "heavy_bytes": Cost.TRAFFIC,
    "depthwise_bytes": Cost.DEPTHWISE,
    "weights_bytes": Cost.WEIGHTS,
    "elementwise_bytes": Cost.ELEMENTWISE,
    "copy_bytes": Cost.COPIES,
    "heavy_count": Cost.STARTING,
    "light_count": Cost.STARTING,
    "constant": Cost.FIXED,
    "transcendental_bytes": Cost.TRANSCENDENTAL,
    "normalisation_bytes": Cost.NORMALISATION,
    "conv_sublinear": Cost.CONVOLUTIONS,
    "pointwise_sublinear": Cost.POINTWISE,
    "grouped_sublinear": Cost.GROUPED,
    "depthwise_sublinear": Cost.DEPTHWISE,
    "gemm_sublinear": Cost.LINEAR,
    "matmul_sublinear": Cost.PRODUCTS,
    "light_sublinear": Cost.ELEMENTWISE,
    "uncached_multiply_adds": Cost.WEIGHTS,
}


@dataclass(frozen=True)
class Row:
    """One measured model: its structure and its latency in ms at the percentile that the model is for."""

    structure: Structure
    latency_ms: float


class Prediction(Frozen):
    """An estimate in ms with its 95% interval. `calibrated` is true where the interval is conformal, from 20 rows on."""

    latency_ms: float
    low_ms: float
    high_ms: float
    calibrated: bool


class Contribution(Frozen):
    """The part of an estimate that one kind of cost has, in ms."""

    cost: Cost
    latency_ms: float


class LatencyModel(Frozen):
    """Latency in ms at one percentile and precision on one device: `law` over `FEATURE_NAMES`, times e to the `residual`
    where there are rows enough for one. `trust` is of both together. `basis` says from what it was learnt."""

    schema_version: Literal[1] = 1
    law: Law
    residual: Residual | None = None
    trust: Trust
    basis: str

    @model_validator(mode="after")
    def _of_these_features(self) -> LatencyModel:
        known = len(FEATURE_NAMES)
        for row in (self.law.coefficients, *self.law.left_out):
            if len(row) != known:
                raise ValueError(f"it is of {len(row)} features, this version of edgedistill counts {known}")
        return self

    @classmethod
    def fit(cls, rows: Sequence[Row], basis: str = "") -> LatencyModel:
        """Learn from at least 3 measured models. Raises ValueError for fewer, or for latencies that are not positive and
        finite."""
        if len(rows) < MIN_ROWS:
            raise ValueError(f"a latency model needs {MIN_ROWS} measured models, here are {len(rows)}")
        matrix = np.stack([features_of(row.structure) for row in rows])
        latencies = np.array([row.latency_ms for row in rows])
        law = Law.fit(matrix, latencies, RIDGE, ALIKE)
        residual = Residual.fit(matrix, latencies, law) if len(rows) >= RESIDUAL_ROWS else None
        trust = _trust(matrix, latencies, law, residual, MEASURED_SPREAD, measured=True)
        return cls(law=law, residual=residual, trust=trust, basis=basis or f"{len(rows)} measured models")

    @property
    def calibrated(self) -> bool:
        """Whether intervals are conformal: from 20 measured rows on."""
        return self.trust.calibrated

    def predict(self, structure: Structure) -> Prediction:
        """The estimate, with an interval that holds the measured latency in 95% of cases (see Trust.interval)."""
        vector = features_of(structure)
        centre = self._estimate(vector)
        low, high = self.trust.interval(
            centre, _left_out(self.law, self.residual, vector), float(np.sum(vector[MULTIPLY_ADDS]))
        )
        return Prediction(latency_ms=centre, low_ms=low, high_ms=high, calibrated=self.calibrated)

    def probability_within(self, structure: Structure, budget_ms: float) -> float:
        """P(latency <= budget) (see Trust.probability_within). Rises with the budget."""
        vector = features_of(structure)
        return self.trust.probability_within(self._estimate(vector), budget_ms, float(np.sum(vector[MULTIPLY_ADDS])))

    def contributions(self, structure: Structure) -> tuple[Contribution, ...]:
        """Where the estimate comes from, the dearest first; kinds that cost nothing are left out. They add up to what
        `predict` says: what the residual and the floor change is shared out in proportion."""
        vector = features_of(structure)
        parts = dict.fromkeys(Cost, 0.0)
        for name, coefficient, amount in zip(FEATURE_NAMES, self.law.coefficients, vector.tolist(), strict=True):
            parts[_COSTS[name]] += coefficient * amount
        total, estimate = sum(parts.values()), self._estimate(vector)
        if total <= 0:
            return (Contribution(cost=Cost.FIXED, latency_ms=estimate),)
        dearest = sorted(parts, key=lambda cost: -parts[cost])
        return tuple(
            Contribution(cost=cost, latency_ms=parts[cost] / total * estimate) for cost in dearest if parts[cost] > 0
        )

    def save(self, path: Path) -> None:
        """Write the model as JSON, whole or not at all."""
        write_atomic(path, self.model_dump_json())

    @classmethod
    def load(cls, path: Path) -> LatencyModel:
        """What `save` wrote. Raises InputError for a file that is not there or no latency model."""
        return read_document(cls, path, "a latency model", "fit and save it again")

    def _estimate(self, vector: FloatArray) -> float:
        correction = 0.0 if self.residual is None else self.residual.estimate(vector)
        return self.law.estimate(vector) * float(np.exp(correction))


@dataclass(frozen=True)
class PublishedModel:
    """What others' published figures for a device give: a latency model for the one precision that they are for."""

    precision: Precision
    model: LatencyModel


def prior_from_published(target: Target) -> PublishedModel | None:
    """latency = a + b * multiply-adds, both non-negative, from `target.published`; None where nothing is published.

    Precisions are not mixed: the one with the most figures is taken, among equals the first of `target.precisions`. A
    prediction from it is never calibrated, and its interval is wide on purpose.
    """
    groups: dict[Precision, list[PublishedLatency]] = {}
    for point in target.published:
        groups.setdefault(point.precision, []).append(point)
    if not groups:
        return None
    order = {precision: place for place, precision in enumerate(target.precisions)}
    precision = max(groups, key=lambda p: (len(groups[p]), -order.get(p, len(order))))
    points = groups[precision]
    matrix = np.zeros((len(points), len(FEATURE_NAMES)))
    # All multiply-adds cost the same here, whatever does them: one column stands for the six, and is spread over them below.
    matrix[:, 0] = [p.multiply_adds for p in points]
    matrix[:, CONSTANT] = 1.0
    latencies = np.array([p.latency_ms for p in points])
    names = ", ".join(f"{p.model} ({p.source})" for p in points)
    law = Law.fit(matrix, latencies, PUBLISHED_RIDGE)
    trust = _trust(matrix, latencies, law, None, PUBLISHED_SPREAD, measured=False)
    spread_out = Law(
        coefficients=_over_all_work(law.coefficients),
        left_out=tuple(_over_all_work(row) for row in law.left_out),
        floor=law.floor,
    )
    basis = f"{len(points)} published figures at {precision}: {names}"
    return PublishedModel(precision, LatencyModel(law=spread_out, trust=trust, basis=basis))


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
    varying = scale > 1e-9
    points = (logs[:, varying] - logs[:, varying].mean(axis=0)) / scale[varying]
    # Of a large space some stand for all, evenly by their order: distances between all pairs would not fit into memory.
    stand_for = points[:: math.ceil(len(points) / STAND_FOR)]
    distances = np.sqrt(np.maximum(_squares(points, stand_for), 0.0))
    nearest = np.full(len(stand_for), 2 * float(distances.max()) + 1.0)
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        gains = np.maximum(nearest - distances, 0.0).sum(axis=1)
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        chosen.append(best)
        nearest = np.minimum(nearest, distances[best])
    return tuple(chosen)


def _squares(rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Squared distances [n, m] of points [n, k] and [m, k]."""
    found: FloatArray = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)[None, :] - 2 * rows @ columns.T
    return found


def _left_out(law: Law, residual: Residual | None, vector: FloatArray) -> FloatArray:
    estimates = law.left_out_estimates(vector)
    if residual is None:
        return estimates
    corrected: FloatArray = estimates * np.exp(residual.left_out_estimates(vector))
    return corrected


def _trust(
    matrix: FloatArray,
    latencies: FloatArray,
    law: Law,
    residual: Residual | None,
    least_spread: float,
    *,
    measured: bool,
) -> Trust:
    without = [_left_out(law, residual, vector)[i] for i, vector in enumerate(matrix)] if law.left_out else []
    work = np.maximum(matrix[:, MULTIPLY_ADDS].sum(axis=1), 1.0)
    return Trust(
        log_residuals=tuple(float(np.log(y / estimate)) for y, estimate in zip(latencies, without)),
        least_spread=least_spread,
        size_range=(float(work.min()), float(work.max())),
        measured=measured,
    )


def _over_all_work(coefficients: Sequence[float]) -> tuple[float, ...]:
    spread = np.zeros(len(FEATURE_NAMES))
    spread[MULTIPLY_ADDS] = coefficients[0]
    spread[CONSTANT] = coefficients[CONSTANT]
    return tuple(spread.tolist())
