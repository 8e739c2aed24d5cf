"""A non-negative linear law learnt from measurements, and how far to trust what it says: shared by latency and bytes.

Nothing earns time or memory back, so coefficients are non-negative; rows are divided by what was measured, so that errors
count as shares and a large model does not drown the small ones. Trust comes from leaving each row out, refitting, and
looking at what was missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats  # type: ignore[import-untyped]
from scipy.optimize import nnls

from edgedistill.devices.latency.features import FloatArray
from edgedistill.documents.specs import Frozen
from edgedistill.networks.structure import Structure

MIN_ROWS = 3
CALIBRATED_ROWS = 20
PROMISED = 0.9
"""Intervals hold the measurement in so many cases: what jackknife+ guarantees, 1 - 2 alpha."""
RANK = (1 + PROMISED) / 2
"""Their ends are at this rank, 1 - alpha, of the rows; where rows are exchangeable they hold about so many cases."""
LEAST_WIDTH = math.log(2)
# Three rows that disagree by orders of magnitude give an interval whose end no double holds; at e^100 it says as little.
WIDEST_LOG = 100.0
# Without it, rows drawn at random miss other kinds of networks by multiples.
SCARCE = 0.05
# No estimate is below this share of the smallest measurement.
FLOOR = 0.01
UNSEEN = math.log(2)
"""By so much, on the log scale, a network is uncertain for which no row had the like of any part: a factor of two either
way. Of timm's networks with a kind of operation that no row had, more than nine in ten are then inside (`unseen_kinds` of
`python benchmarks/latency_table.py`)."""


@dataclass(frozen=True)
class Part:
    """What is known of a part of a row: `vector` [k] alone takes `share` (0 to 1) of what was measured of `row`."""

    row: int
    vector: FloatArray
    share: float


class Law(Frozen):
    """`coefficients` [k] times a vector [k]; `left_out` [n][k] are those of the fits without one row each. `floor` is the
    least that it says."""

    coefficients: tuple[float, ...]
    left_out: tuple[tuple[float, ...], ...]
    floor: Annotated[float, Field(gt=0)]

    @classmethod
    def fit(
        cls,
        matrix: FloatArray,
        measured: FloatArray,
        ridge: float,
        alike: Sequence[Sequence[int]] = (),
        parts: Sequence[Part] = (),
    ) -> Law:
        """The law of rows [n, k] and what was measured [n], and of what is known of their parts. Columns of zeros cost
        nothing. `alike` are groups of columns in one unit, which cost about alike where the rows do not say otherwise: a
        column of which they have next to none is not believed to cost many times what the others do. Raises ValueError for
        measurements that are not positive and finite."""
        if not (np.all(np.isfinite(measured)) and np.all(measured > 0)):
            raise ValueError("measurements are positive and finite")
        rows = np.arange(len(measured))
        of = np.array([*rows, *(part.row for part in parts)])
        equations = np.vstack([matrix, *(part.vector for part in parts)]) / measured[of, None]
        wanted = np.array([*np.ones(len(rows)), *(part.share for part in parts)])

        def solve(kept: NDArray[np.bool_]) -> tuple[float, ...]:
            return _solve(equations[kept], wanted[kept], ridge, alike)

        return cls(
            coefficients=solve(of >= 0),
            left_out=tuple(solve(of != row) for row in rows if len(rows) > 1),
            floor=float(measured.min()) * FLOOR,
        )

    def estimate(self, vector: FloatArray) -> float:
        """For a vector [k]."""
        return max(float(np.dot(self.coefficients, vector)), self.floor)

    def left_out_estimates(self, vector: FloatArray) -> FloatArray:
        """Of the fit without each row [n], for a vector [k]."""
        found: FloatArray = np.maximum(self._others @ vector, self.floor)
        return found

    @cached_property
    def _others(self) -> FloatArray:
        return np.array(self.left_out).reshape(len(self.left_out), len(self.coefficients))


class Trust(Frozen):
    """What leaving rows out showed: `log_residuals` [n] are log(measured / estimated without it) of each row.

    `least_spread` is the standard deviation of the log below which no sample of residuals is believed. `size_range` are the
    sizes seen, in whatever a model takes for size; beyond it an estimate is widened. `measured` is false where the rows are
    others' published figures: then nothing is ever calibrated.
    """

    log_residuals: tuple[float, ...]
    least_spread: Annotated[float, Field(gt=0)]
    size_range: tuple[float, float]
    measured: bool = True

    @classmethod
    def of(
        cls,
        law: Law,
        matrix: FloatArray,
        figures: FloatArray,
        sizes: Sequence[float],
        least_spread: float,
        *,
        measured: bool = True,
    ) -> Trust:
        """Of a law, the rows [n, k] that it was fitted to, their figures [n] and sizes [n]; not `measured` here where those
        are published ones."""
        without = [law.left_out_estimates(vector)[row] for row, vector in enumerate(matrix) if law.left_out]
        return cls(
            log_residuals=tuple(float(np.log(y / estimate)) for y, estimate in zip(figures, without)),
            least_spread=least_spread,
            size_range=(min(sizes), max(sizes)),
            measured=measured,
        )

    @property
    def calibrated(self) -> bool:
        """Whether intervals are conformal."""
        return self.measured and len(self.log_residuals) >= CALIBRATED_ROWS

    def interval(self, estimate: float, left_out: FloatArray, size: float, unseen: float = 0.0) -> tuple[float, float]:
        """Low and high end that hold the measurement in `PROMISED` of cases; `left_out` [n] are the estimates without each
        row, `unseen` is the share, 0 to 1, that no row had the like of: it widens in proportion, on the log scale.

        From 20 rows on it is jackknife+ (Barber et al. 2021, theorem 1), on the log scale: each left-out estimate shifted by
        its own residual. Fewer rows have too few ranks; then it is Student's t on the residuals, and uncalibrated.
        """
        centre = math.log(estimate)
        if self.calibrated:
            others = np.log(left_out)
            misses = np.maximum(np.abs(self.log_residuals), self.least_spread)
            rank = math.ceil(RANK * (len(misses) + 1))
            low = float(np.sort(others - misses)[-rank])
            high = float(np.sort(others + misses)[rank - 1])
        else:
            half = float(stats.t.ppf((1 + RANK) / 2, self._freedom)) * self._spread
            low, high = centre - half, centre + half
        wider, more = self._widening(size), unseen * UNSEEN
        below, above = (min(wider * max(d, 0.0) + more, WIDEST_LOG) for d in (centre - low, high - centre))
        return estimate * math.exp(-below), estimate * math.exp(above)

    def probability_within(self, estimate: float, limit: float, size: float, unseen: float = 0.0) -> float:
        """P(measurement <= limit) from Student's t on the left-out log residuals. Conformal ranks resolve only 1 / (n + 1),
        too coarse for the few percent below which a candidate is given up. Rises with the limit."""
        if limit <= 0:
            return 0.0
        miss = math.log(limit) - math.log(estimate)
        # The width of an interval is about two spreads to either side.
        spread = self._spread * self._widening(size) + unseen * UNSEEN / 2
        return float(stats.t.cdf(miss / spread, self._freedom))

    @property
    def _spread(self) -> float:
        """Standard deviation of log(measured / estimated) for a new model. About zero, not about the residuals' mean: a bias
        that so few rows show is not known well enough to be subtracted."""
        count = len(self.log_residuals)
        seen = math.sqrt(math.fsum(r * r for r in self.log_residuals) / count) if count else 0.0
        return max(seen, self.least_spread) * math.sqrt(1 + 1 / max(count, 1))

    @property
    def _freedom(self) -> int:
        return max(len(self.log_residuals) - 1, 2)

    def _widening(self, size: float) -> float:
        """By how much a miss may be larger than among the rows, 1 inside of what was seen. A line through points that
        spread over a width w of log size, drawn on for a distance d, is off by 1 + d / w as much: its slope is known no
        better than its ends."""
        low, high = (math.log(max(end, 1.0)) for end in self.size_range)
        here = math.log(max(size, 1.0))
        return 1 + max(0.0, here - high, low - here) / max(high - low, LEAST_WIDTH)


class Prediction(NamedTuple):
    """An estimate, in ms or bytes, and the ends of an interval that holds the measurement in 90% of cases."""

    value: float
    low: float
    high: float


class Learnt(Frozen):
    """A `law` over the vector of a structure, and the `trust` in it: what the models of latency and of bytes have in
    common."""

    law: Law
    trust: Trust

    @property
    def calibrated(self) -> bool:
        """Whether intervals are conformal: from 20 measured rows on."""
        return self.trust.calibrated

    def predict(self, structure: Structure) -> Prediction:
        """The estimate and its interval (see Trust.interval)."""
        vector, size, unseen = self._seen(structure)
        estimate = self.law.estimate(vector)
        return Prediction(estimate, *self.trust.interval(estimate, self.law.left_out_estimates(vector), size, unseen))

    def probability_within(self, structure: Structure, limit: float) -> float:
        """P(measurement <= limit) (see Trust.probability_within). Rises with the limit."""
        vector, size, unseen = self._seen(structure)
        return self.trust.probability_within(self.law.estimate(vector), limit, size, unseen)

    def _seen(self, structure: Structure) -> tuple[FloatArray, float, float]:
        """The structure's vector [k], its size, and its share that no row had the like of."""
        raise NotImplementedError


def _solve(
    equations: FloatArray, wanted: FloatArray, ridge: float, alike: Sequence[Sequence[int]]
) -> tuple[float, ...]:
    """Non-negative coefficients [k] that bring equations [m, k], divided by what was measured, nearest to the shares
    `wanted` [m], with a ridge on the columns scaled to one: it decides between columns that the rows cannot tell apart by
    sharing, and hardly touches the others. A column with less than the SCARCE part of its group's is not scaled up to one,
    but to what that part of the group would be."""
    scale = np.sqrt((equations**2).mean(axis=0))
    scale[scale == 0] = 1.0
    penalty = np.full(len(scale), math.sqrt(ridge))
    for group in alike:
        columns = list(group)
        whole = math.sqrt(float((equations[:, columns].sum(axis=1) ** 2).mean()))
        penalty[columns] *= np.maximum(1.0, SCARCE * whole / scale[columns])
    targets = np.concatenate([wanted, np.zeros(len(scale))])
    scaled, _ = nnls(np.vstack([equations / scale, np.diag(penalty)]), targets)
    return tuple((scaled / scale).tolist())
