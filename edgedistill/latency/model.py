"""Latency from structure: a non-negative linear law learnt from measurements, and how far to trust it.

Work, bytes and counts each cost something and nothing earns time back, so coefficients are non-negative; rows are divided by
their measured latency, so that errors count as shares and a large model does not drown the small ones. Trust comes from
leaving each row out, refitting, and looking at what was missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import stats  # type: ignore[import-untyped]
from scipy.optimize import nnls  # type: ignore[import-untyped]

from edgedistill.latency.features import CONSTANT, FEATURE_NAMES, MULTIPLY_ADDS, PLAIN, FloatArray
from edgedistill.specs import Frozen, Precision, PublishedLatency, Target

CALIBRATED_ROWS = 20
# Three rows that disagree by orders of magnitude give an interval whose end no double holds; at e^100 it says as little.
WIDEST_LOG = 100.0
MIN_ROWS = 3
LEAST_WIDTH = math.log(2)
COVERAGE = 0.95
# Under so many rows the plain features alone are learnt: the others fit what few rows say by chance. With more, a stronger
# ridge shares out what features that move together explain together.
RICH_ROWS = 30
PLAIN_RIDGE, RICH_RIDGE = 1e-2, 1.0
DESIGN_RIDGE = 1e-3

# The same artifact measured again in another session: median spread 0.7%, 90th percentile 11% on phones.
MEASURED_SPREAD = 0.01
# Multiply-adds alone miss by 27-30% across families on one CPU, and a published figure adds another runtime version, another
# percentile and another input pipeline: a standard deviation of 0.5 on the log scale, a factor of 1.65.
PUBLISHED_SPREAD = 0.5


@dataclass(frozen=True, eq=False)
class Row:
    """One measured model: its features [23] and its latency in ms at the percentile that the model is for."""

    features: FloatArray
    latency_ms: float


class Prediction(Frozen):
    """An estimate in ms with its 95% interval. `calibrated` is true where the interval is conformal, from 20 rows on."""

    latency_ms: float
    low_ms: float
    high_ms: float
    calibrated: bool


class LatencyModel(Frozen):
    """Latency in ms as `coefficients` [23] times features, at one percentile and precision on one device.

    `log_residuals` [n] are log(measured / predicted) of each row under the fit without it, whose coefficients are
    `left_out` [n][23]. `least_spread` is the standard deviation of the log below which no sample of residuals is believed.
    `multiply_adds_range` is what was seen; beyond it an estimate is widened. `basis` says from what it was learnt.
    """

    coefficients: tuple[float, ...]
    log_residuals: tuple[float, ...]
    left_out: tuple[tuple[float, ...], ...]
    floor_ms: Annotated[float, Field(gt=0)]
    least_spread: Annotated[float, Field(gt=0)]
    multiply_adds_range: tuple[float, float]
    basis: str

    @classmethod
    def fit(cls, rows: Sequence[Row], basis: str = "") -> LatencyModel:
        """Learn from at least 3 measured models. Raises ValueError for fewer, or for latencies that are not positive and
        finite."""
        if len(rows) < MIN_ROWS:
            raise ValueError(f"a latency model needs {MIN_ROWS} measured models, here are {len(rows)}")
        matrix = np.stack([row.features for row in rows])
        latencies = np.array([row.latency_ms for row in rows])
        return _fit(matrix, latencies, MEASURED_SPREAD, basis or f"{len(rows)} measured models")

    @property
    def calibrated(self) -> bool:
        return self.least_spread < PUBLISHED_SPREAD and len(self.log_residuals) >= CALIBRATED_ROWS

    def predict(self, features: FloatArray) -> Prediction:
        """The estimate for a vector [23], with an interval that holds the measured latency in 95% of cases.

        From 20 rows on it is jackknife+ (Barber et al. 2021), on the log scale: each left-out fit shifted by its own
        residual. Fewer rows cannot resolve 95% by ranks; then it is Student's t on the residuals, and uncalibrated.
        """
        centre = self._estimate(self.coefficients, features)
        wider = self._widening(features)
        if self.calibrated:
            others = np.log([self._estimate(w, features) for w in self.left_out])
            misses = np.maximum(np.abs(self.log_residuals), self.least_spread)
            rank = math.ceil(COVERAGE * (len(misses) + 1))
            low = float(np.sort(others - misses)[-rank])
            high = float(np.sort(others + misses)[rank - 1])
        else:
            half = float(stats.t.ppf((1 + COVERAGE) / 2, self._freedom)) * self._spread
            low, high = math.log(centre) - half, math.log(centre) + half
        less, more = (min(wider * max(d, 0.0), WIDEST_LOG) for d in (math.log(centre) - low, high - math.log(centre)))
        return Prediction(
            latency_ms=centre,
            low_ms=centre * math.exp(-less),
            high_ms=centre * math.exp(more),
            calibrated=self.calibrated,
        )

    def probability_within(self, features: FloatArray, budget_ms: float) -> float:
        """P(latency <= budget) from Student's t on the left-out log residuals. Conformal ranks resolve only 1 / (n + 1), too
        coarse for the few percent below which a candidate is given up. Rises with the budget."""
        if budget_ms <= 0:
            return 0.0
        miss = math.log(budget_ms) - math.log(self._estimate(self.coefficients, features))
        return float(stats.t.cdf(miss / (self._spread * self._widening(features)), self._freedom))

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> LatencyModel:
        """Raises pydantic's ValidationError where `text` is no latency model."""
        return cls.model_validate_json(text)

    @property
    def _spread(self) -> float:
        """Standard deviation of log(measured / predicted) for a new model. About zero, not about the residuals' mean: a bias
        that so few rows show is not known well enough to be subtracted."""
        count = len(self.log_residuals)
        seen = math.sqrt(math.fsum(r * r for r in self.log_residuals) / count) if count else 0.0
        return max(seen, self.least_spread) * math.sqrt(1 + 1 / max(count, 1))

    @property
    def _freedom(self) -> int:
        return max(len(self.log_residuals) - 1, 2)

    def _widening(self, features: FloatArray) -> float:
        """By how much a miss may be larger than among the rows, 1 inside of what was seen. A line through points that
        spread over a width w of log multiply-adds, drawn on for a distance d, is off by 1 + d / w as much: its slope is
        known no better than its ends."""
        low, high = (math.log(end) for end in self.multiply_adds_range)
        work = math.log(max(float(np.sum(features[MULTIPLY_ADDS])), 1.0))
        return 1 + max(0.0, work - high, low - work) / max(high - low, LEAST_WIDTH)

    def _estimate(self, coefficients: Sequence[float], features: FloatArray) -> float:
        return max(float(np.dot(coefficients, features)), self.floor_ms)


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
    names = ", ".join(f"{p.model} ({p.source})" for p in points)
    basis = f"{len(points)} published figures at {precision}: {names}"
    fitted = _fit(matrix, np.array([p.latency_ms for p in points]), PUBLISHED_SPREAD, basis)
    spread_out = {
        "coefficients": _over_all_work(fitted.coefficients),
        "left_out": tuple(_over_all_work(row) for row in fitted.left_out),
    }
    return PublishedModel(precision, fitted.model_copy(update=spread_out))


def choose_probes(feature_matrix: Sequence[FloatArray] | FloatArray, count: int) -> tuple[int, ...]:
    """Indices of up to `count` rows of [n, 23] that tell most about a linear law over all of them: greedy D-optimal design
    on the standardised logs of the features that so many rows can tell apart. Distinct; in the order chosen, so that a
    prefix is a design too."""
    if len(feature_matrix) == 0:
        return ()
    logs = np.log1p(np.asarray(feature_matrix, dtype=np.float64).reshape(-1, len(FEATURE_NAMES)))
    logs = logs if count >= RICH_ROWS else logs[:, PLAIN]
    scale = logs.std(axis=0)
    varying = scale > 1e-9
    points = np.column_stack([(logs[:, varying] - logs[:, varying].mean(axis=0)) / scale[varying], np.ones(len(logs))])
    # (sum of x x^T + ridge)^-1 over the rows chosen, kept up to date by the Sherman-Morrison formula. A row x multiplies the
    # determinant by 1 + x^T inverse x, so the next one is where that is largest.
    inverse = np.eye(points.shape[1]) / DESIGN_RIDGE
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        gains = np.einsum("ij,jk,ik->i", points, inverse, points)
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        chosen.append(best)
        step = inverse @ points[best]
        inverse -= np.outer(step, step) / (1 + points[best] @ step)
    return tuple(chosen)


def _fit(matrix: FloatArray, latencies: FloatArray, least_spread: float, basis: str) -> LatencyModel:
    if not (np.all(np.isfinite(latencies)) and np.all(latencies > 0)):
        raise ValueError("latencies are positive and finite")
    floor = float(latencies.min()) / 100
    count = len(latencies)
    rich = count >= RICH_ROWS
    rest = [np.arange(count) != i for i in range(count)] if count > 1 else []
    left_out = [_solve(matrix[keep], latencies[keep], rich) for keep in rest]
    missed = [math.log(y / max(float(x @ w), floor)) for x, y, w in zip(matrix, latencies, left_out)]
    work = np.maximum(matrix[:, MULTIPLY_ADDS].sum(axis=1), 1.0)
    return LatencyModel(
        coefficients=tuple(_solve(matrix, latencies, rich).tolist()),
        log_residuals=tuple(missed),
        left_out=tuple(tuple(w.tolist()) for w in left_out),
        floor_ms=floor,
        least_spread=least_spread,
        multiply_adds_range=(float(work.min()), float(work.max())),
        basis=basis,
    )


def _solve(matrix: FloatArray, latencies: FloatArray, rich: bool) -> FloatArray:
    """Non-negative coefficients [k] that minimise the relative errors, with a ridge on the columns scaled to one: it decides
    between features that the rows cannot tell apart by sharing, and hardly touches the others. Unless `rich`, the
    features beyond the plain ones stay at zero."""
    relative = matrix / latencies[:, None]
    if not rich:
        relative[:, PLAIN.stop :] = 0.0
    scale = np.sqrt((relative**2).mean(axis=0))
    scale[scale == 0] = 1.0
    ridge = math.sqrt(RICH_RIDGE if rich else PLAIN_RIDGE) * np.eye(matrix.shape[1])
    scaled, _ = nnls(
        np.vstack([relative / scale, ridge]), np.concatenate([np.ones(len(latencies)), np.zeros(len(scale))])
    )
    # The ridge draws all coefficients towards zero, and with them every estimate: what the median row lost is given back.
    shrunk = float(np.median((relative / scale) @ scaled))
    result: FloatArray = scaled / scale / (shrunk if shrunk > 0 else 1.0)
    return result


def _over_all_work(coefficients: Sequence[float]) -> tuple[float, ...]:
    spread = np.zeros(len(FEATURE_NAMES))
    spread[MULTIPLY_ADDS] = coefficients[0]
    spread[CONSTANT] = coefficients[CONSTANT]
    return tuple(spread.tolist())
