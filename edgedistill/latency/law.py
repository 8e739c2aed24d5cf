"""A non-negative linear law learnt from measurements, and how far to trust what it says: shared by latency and bytes.

Nothing earns time or memory back, so coefficients are non-negative; rows are divided by what was measured, so that errors
count as shares and a large model does not drown the small ones. Trust comes from leaving each row out, refitting, and
looking at what was missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import stats  # type: ignore[import-untyped]
from scipy.optimize import nnls  # type: ignore[import-untyped]

from edgedistill.latency.features import FloatArray
from edgedistill.specs import Frozen

MIN_ROWS = 3
CALIBRATED_ROWS = 20
COVERAGE = 0.95
LEAST_WIDTH = math.log(2)
# Three rows that disagree by orders of magnitude give an interval whose end no double holds; at e^100 it says as little.
WIDEST_LOG = 100.0
# On timm's table 0.03 to 0.1 do about as well; without it, rows drawn at random miss other kinds of networks by multiples.
SCARCE = 0.05
# No estimate is below this share of the smallest measurement.
FLOOR = 0.01


class Law(Frozen):
    """`coefficients` [k] times a vector [k]; `left_out` [n][k] are those of the fits without one row each. `floor` is the
    least that it says."""

    coefficients: tuple[float, ...]
    left_out: tuple[tuple[float, ...], ...]
    floor: Annotated[float, Field(gt=0)]

    @classmethod
    def fit(cls, matrix: FloatArray, measured: FloatArray, ridge: float, alike: Sequence[Sequence[int]] = ()) -> Law:
        """The law of rows [n, k] and what was measured [n]. Columns of zeros cost nothing. `alike` are groups of columns in
        one unit, which cost about alike where the rows do not say otherwise: a column of which they have next to none is
        not believed to cost many times what the others do. Raises ValueError for measurements that are not positive and
        finite."""
        if not (np.all(np.isfinite(measured)) and np.all(measured > 0)):
            raise ValueError("measurements are positive and finite")
        count = len(measured)
        rest = [np.arange(count) != i for i in range(count)] if count > 1 else []
        return cls(
            coefficients=tuple(_solve(matrix, measured, ridge, alike).tolist()),
            left_out=tuple(tuple(_solve(matrix[keep], measured[keep], ridge, alike).tolist()) for keep in rest),
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

    @property
    def calibrated(self) -> bool:
        """Whether intervals are conformal."""
        return self.measured and len(self.log_residuals) >= CALIBRATED_ROWS

    def interval(self, estimate: float, left_out: FloatArray, size: float) -> tuple[float, float]:
        """Low and high end that hold the measurement in 95% of cases; `left_out` [n] are the estimates without each row.

        From 20 rows on it is jackknife+ (Barber et al. 2021), on the log scale: each left-out estimate shifted by its own
        residual. Fewer rows cannot resolve 95% by ranks; then it is Student's t on the residuals, and uncalibrated.
        """
        centre = math.log(estimate)
        if self.calibrated:
            others = np.log(left_out)
            misses = np.maximum(np.abs(self.log_residuals), self.least_spread)
            rank = math.ceil(COVERAGE * (len(misses) + 1))
            low = float(np.sort(others - misses)[-rank])
            high = float(np.sort(others + misses)[rank - 1])
        else:
            half = float(stats.t.ppf((1 + COVERAGE) / 2, self._freedom)) * self._spread
            low, high = centre - half, centre + half
        wider = self._widening(size)
        less, more = (min(wider * max(distance, 0.0), WIDEST_LOG) for distance in (centre - low, high - centre))
        return estimate * math.exp(-less), estimate * math.exp(more)

    def probability_within(self, estimate: float, limit: float, size: float) -> float:
        """P(measurement <= limit) from Student's t on the left-out log residuals. Conformal ranks resolve only 1 / (n + 1),
        too coarse for the few percent below which a candidate is given up. Rises with the limit."""
        if limit <= 0:
            return 0.0
        miss = math.log(limit) - math.log(estimate)
        return float(stats.t.cdf(miss / (self._spread * self._widening(size)), self._freedom))

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


def _solve(matrix: FloatArray, measured: FloatArray, ridge: float, alike: Sequence[Sequence[int]]) -> FloatArray:
    """Non-negative coefficients [k] that minimise the relative errors, with a ridge on the columns scaled to one: it decides
    between columns that the rows cannot tell apart by sharing, and hardly touches the others. A column with less than the
    SCARCE part of its group's is not scaled up to one, but to what that part of the group would be."""
    relative = matrix / measured[:, None]
    scale = np.sqrt((relative**2).mean(axis=0))
    scale[scale == 0] = 1.0
    penalty = np.full(len(scale), math.sqrt(ridge))
    for columns in alike:
        whole = math.sqrt(float((relative[:, columns].sum(axis=1) ** 2).mean()))
        penalty[columns] *= np.maximum(1.0, SCARCE * whole / scale[columns])
    scaled, _ = nnls(
        np.vstack([relative / scale, np.diag(penalty)]), np.concatenate([np.ones(len(measured)), np.zeros(len(scale))])
    )
    # The ridge draws all coefficients towards zero, and with them every estimate: what the median row lost is given back.
    shrunk = float(np.median((relative / scale) @ scaled))
    result: FloatArray = scaled / scale / (shrunk if shrunk > 0 else 1.0)
    return result
