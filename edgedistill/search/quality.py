"""How accurate an untrained student would become, learnt from the rungs that others have finished.

A Gaussian process (Rasmussen and Williams 2006, chapters 2 and 5) over a student's size, its family and the epochs trained:
what a student has at an early rung tells of its own later ones, of others of its family, and a little of all. Accuracy
is learnt as -log(share of errors), in which a step from 90% to 95% is as long as one from 80% to 90%.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]

from edgedistill.students.space import Candidate

FloatArray = NDArray[np.float64]

LEAST_ROWS = 4
LEAST_ERROR = 1e-3
"""Errors below this share count as this: a small validation split may show none."""


@dataclass(frozen=True)
class Curve:
    """A candidate's validation accuracy by epochs trained."""

    candidate: Candidate
    accuracy: Mapping[int, float]


@dataclass(frozen=True, eq=False)
class QualityModel:
    """The process, conditioned on curves. `hyper` are logs: see `_covariance`."""

    families: tuple[str, ...]
    centre: FloatArray
    scale: FloatArray
    epochs: int
    inputs: FloatArray
    weights: FloatArray
    factor: tuple[FloatArray, bool]
    hyper: FloatArray
    mean: float

    @classmethod
    def fit(cls, curves: Sequence[Curve], space: Sequence[Candidate], epochs: int) -> QualityModel | None:
        """Learn from finished rungs; `epochs` is the last one's, for which it predicts. None while fewer than `LEAST_ROWS`
        candidates have come so far: what the epochs still to come give is not known before that."""
        if sum(epochs in curve.accuracy for curve in curves) < LEAST_ROWS:
            return None
        families = tuple(sorted({c.spec.family for c in space} | {c.candidate.spec.family for c in curves}))
        sizes = np.array([_size(c) for c in space] or [_size(c.candidate) for c in curves])
        centre, scale = sizes.mean(axis=0), np.maximum(sizes.std(axis=0), 1e-6)
        points = [(c.candidate, e, accuracy) for c in curves for e, accuracy in sorted(c.accuracy.items())]
        inputs = np.array([_input(c, e / epochs, families, centre, scale) for c, e, _ in points])
        values = np.array([scored(accuracy) for *_, accuracy in points])
        mean = float(values.mean())
        hyper = _learnt(inputs, values - mean)
        factor = cho_factor(_covariance(inputs, inputs, hyper) + _noise(hyper) * np.eye(len(inputs)), lower=True)
        weights = cho_solve(factor, values - mean)
        return cls(families, centre, scale, epochs, inputs, weights, factor, hyper, mean)

    def predict(self, candidates: Sequence[Candidate]) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation [n] of the score (`scored`) after the last rung."""
        at = np.array([_input(c, 1.0, self.families, self.centre, self.scale) for c in candidates])
        cross = _covariance(at, self.inputs, self.hyper)
        prior = float(np.exp(self.hyper[:3]).sum())
        variance = prior - np.einsum("ij,ji->i", cross, cho_solve(self.factor, cross.T))
        mean: FloatArray = self.mean + cross @ self.weights
        # A run's own luck is part of what its validation accuracy will be.
        deviation: FloatArray = np.sqrt(np.maximum(variance, 0.0) + _noise(self.hyper))
        return mean, deviation

    def reach(self, candidates: Sequence[Candidate], accuracy: float) -> FloatArray:
        """P(accuracy after the last rung > `accuracy`) [n]."""
        mean, deviation = self.predict(candidates)
        chance: FloatArray = stats.norm.sf((scored(accuracy) - mean) / deviation)
        return chance

    def intervals(self, candidates: Sequence[Candidate]) -> list[tuple[float, float, float]]:
        """Lower end, middle and upper end of each candidate's accuracy after the last rung, at 95%."""
        half = float(stats.norm.ppf(0.975))
        return [
            (unscored(m - half * d), unscored(m), unscored(m + half * d)) for m, d in zip(*self.predict(candidates))
        ]

    def reaches(self, candidate: Candidate, accuracy: float) -> float:
        """`reach` of one candidate."""
        return float(self.reach([candidate], accuracy)[0])


def scored(accuracy: float) -> float:
    """-log(share of errors)."""
    return -math.log(max(1 - accuracy, LEAST_ERROR))


def unscored(score: float) -> float:
    """The accuracy with that score; 0 for a score below it, which a wide interval may reach."""
    return max(0.0, 1 - math.exp(-score))


def _size(candidate: Candidate) -> list[float]:
    return [
        math.log(max(candidate.multiply_adds, 1)),
        math.log(max(candidate.parameters, 1)),
        math.log(candidate.spec.resolution),
        candidate.spec.depth,
    ]


def _input(
    candidate: Candidate, share: float, families: tuple[str, ...], centre: FloatArray, scale: FloatArray
) -> FloatArray:
    kind = [1.0 if candidate.spec.family == family else 0.0 for family in families]
    return np.array([*((np.array(_size(candidate)) - centre) / scale), math.log2(share), *kind])


SIZES = 4


def _covariance(a: FloatArray, b: FloatArray, hyper: FloatArray) -> FloatArray:
    """Three parts: what all students share over size and epochs, what a family has of its own, and what a family's curve
    has. `hyper`: logs of their variances, of the length scales of size (shared and a family's) and epochs, of the noise."""
    shared, own, curve, wide, narrow, long = np.exp(hyper[:6])
    sizes = ((a[:, None, :SIZES] - b[None, :, :SIZES]) ** 2).sum(-1)
    times = (a[:, None, SIZES] - b[None, :, SIZES]) ** 2
    same = a[:, SIZES + 1 :] @ b[:, SIZES + 1 :].T
    late = np.exp(-0.5 * times / long**2)
    result: FloatArray = (
        shared * np.exp(-0.5 * sizes / wide**2) * np.exp(-0.5 * times / (2 * long) ** 2)
        + own * same * np.exp(-0.5 * sizes / narrow**2)
        + curve * same * np.exp(-0.5 * sizes / narrow**2) * late
    )
    return result


def _noise(hyper: FloatArray) -> float:
    return float(np.exp(hyper[6]))


_PRIOR = np.array(
    [math.log(0.3), math.log(0.05), math.log(0.02), math.log(3.0), math.log(2.0), math.log(2.0), math.log(4e-4)]
)
_PRIOR_WIDTH = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0])


def _learnt(inputs: FloatArray, values: FloatArray) -> FloatArray:
    """The hyperparameters that maximise the marginal likelihood times a log-normal prior: with a handful of rows the prior
    speaks, with many the rows do."""

    def loss(hyper: FloatArray) -> float:
        covariance = _covariance(inputs, inputs, hyper) + _noise(hyper) * np.eye(len(inputs))
        try:
            lower, _ = factor = cho_factor(covariance, lower=True)
        except np.linalg.LinAlgError:
            return 1e9
        fit = 0.5 * values @ cho_solve(factor, values) + np.log(np.diag(lower)).sum()
        return float(fit + 0.5 * (((hyper - _PRIOR) / _PRIOR_WIDTH) ** 2).sum())

    found = minimize(loss, _PRIOR, method="L-BFGS-B", options={"maxiter": 60})
    learnt: FloatArray = found.x
    return learnt
