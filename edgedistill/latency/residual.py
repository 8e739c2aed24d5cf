"""What the linear law misses, learnt from its own residuals once there are rows enough: a Gaussian process.

Two kernels of one kind do not cost the same for their work in every shape; networks that are alike in all features miss
alike. The process is over the standardised logs of the features, with a Matern 5/2 kernel and noise, whose hyperparameters
are those of the largest marginal likelihood (Rasmussen and Williams, Gaussian Processes for Machine Learning, 5.4).
Without one row, at the same hyperparameters, it has a closed form (5.4.2 there), so that leaving out costs no refit.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np

from edgedistill.latency.features import FloatArray
from edgedistill.latency.law import Law
from edgedistill.specs import Frozen

LENGTH_SCALE_BOUNDS = (1.0, 100.0)
NOISE_BOUNDS = (0.05, 2.0)
SMOOTHNESS = 2.5


class Residual(Frozen):
    """log(measured / law) as a Gaussian process over `points` [n][k], logs of features with `centre` [k] taken away and
    divided by `scale` [k] (features that do not vary have a scale of 0 and are left out).

    `weights` [n] are those of the points; `left_out` [n][n] those without each row, given the law without it too.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    points: tuple[tuple[float, ...], ...]
    length_scale: float
    weights: tuple[float, ...]
    left_out: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, matrix: FloatArray, measured: FloatArray, law: Law) -> Residual:
        """Of a law fitted to the rows [n, k] and what was measured [n]. Same rows, same result."""
        from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
        from sklearn.gaussian_process import GaussianProcessRegressor  # type: ignore[import-untyped]
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel  # type: ignore[import-untyped]

        logs = np.log1p(matrix)
        centre, scale = logs.mean(axis=0), logs.std(axis=0)
        scale[scale < 1e-9] = 0.0
        points = _standardised(logs, centre, scale)
        missed = np.log(measured) - np.log([law.estimate(x) for x in matrix])
        spread = max(float(missed.std()), 1e-6)
        kernel = ConstantKernel(1.0) * Matern(4.0, LENGTH_SCALE_BOUNDS, nu=SMOOTHNESS) + WhiteKernel(0.3, NOISE_BOUNDS)
        with warnings.catch_warnings():
            # A hyperparameter at its bound is what the bounds are for.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = GaussianProcessRegressor(kernel).fit(points, missed / spread).kernel_
        inverse = np.linalg.inv(found(points))
        variance = found.k1.k1.constant_value
        others = np.log(measured)[:, None] - np.log([law.left_out_estimates(x) for x in matrix])
        left_out = np.zeros_like(others)
        for row, without in enumerate(others.T):
            # The inverse without a row and its column, by the formula of the inverse of a partitioned matrix.
            smaller = inverse - np.outer(inverse[row], inverse[row]) / inverse[row, row]
            smaller[row] = smaller[:, row] = 0.0
            left_out[row] = variance * smaller @ without
        return cls(
            centre=tuple(centre.tolist()),
            scale=tuple(scale.tolist()),
            points=tuple(map(tuple, points.tolist())),
            length_scale=float(found.k1.k2.length_scale),
            weights=tuple((variance * inverse @ missed).tolist()),
            left_out=tuple(map(tuple, left_out.tolist())),
        )

    def estimate(self, vector: FloatArray) -> float:
        """log(measured / law) for a vector [k]; zero far from all rows."""
        return float(self._likeness(vector) @ self._weights[0])

    def left_out_estimates(self, vector: FloatArray) -> FloatArray:
        """The same without each row [n]."""
        found: FloatArray = self._weights[1] @ self._likeness(vector)
        return found

    @cached_property
    def _weights(self) -> tuple[FloatArray, FloatArray]:
        return np.array(self.weights), np.array(self.left_out)

    @cached_property
    def _kernel(self) -> tuple[Any, FloatArray]:
        from sklearn.gaussian_process.kernels import Matern

        return Matern(self.length_scale, nu=SMOOTHNESS), np.array(self.points)

    def _likeness(self, vector: FloatArray) -> FloatArray:
        kernel, points = self._kernel
        here = _standardised(np.log1p(vector)[None], np.array(self.centre), np.array(self.scale))
        found: FloatArray = kernel(here, points)[0]
        return found


def _standardised(logs: FloatArray, centre: FloatArray, scale: FloatArray) -> FloatArray:
    varying = scale > 0
    found: FloatArray = (logs - centre)[:, varying] / scale[varying]
    return found
