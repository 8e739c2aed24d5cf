"""How accurate an untrained student would become, learnt from the rungs that others have finished.

What a rung tells of the final score is learnt from students that went on from it, so that an early rung counts as much as it
is worth and no more. Final scores, each as sure as its rung makes it, teach a Gaussian process (Rasmussen and Williams 2006,
chapter 2): a smooth law of family and size, and every student's own luck. Its scale is what the scores show, the rest is
fixed: a search has too few students to learn more from. Accuracy is learnt as -log(share of errors), in which a step from
90% to 95% is as long as one from 80% to 90%.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from sklearn.feature_extraction import DictVectorizer  # type: ignore[import-untyped]
from sklearn.gaussian_process import GaussianProcessRegressor  # type: ignore[import-untyped]
from sklearn.gaussian_process.kernels import RBF  # type: ignore[import-untyped]
from sklearn.linear_model import BayesianRidge  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline, make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from edgedistill.networks.space import Candidate

FloatArray = NDArray[np.float64]

LEAST_FINISHED = 2
"""Students that have to have come to the last rung before anything is said of the others."""
LEAST_ERROR = 1e-3
"""Errors below this share count as this: a small validation split may show none."""

# What is thought before any row is seen. By how much the score grows with a standard deviation of log multiply-adds; its
# standard deviations by what else family and size explain, by luck, and by what the last rung blurs.
TREND, LAW, LUCK, BLUR = 0.05, 0.2, 0.07, 0.03
LENGTH = 4.0
"""Over so many standard deviations of family and size the law bends."""
# Standard deviations of what an earlier rung does not tell of the final score, and of how the slope between the two differs
# from one; by how much less than that score family and size are thought to tell of the way from there.
EARLY_BLUR, SLOPE, HINT = 0.08, 0.35, 0.1
# What is thought beforehand weighs as much as so many students; as it may be wrong, chances are Student's of few degrees.
FIRM, TAILS = 5.0, 4.0


@dataclass(frozen=True)
class Curve:
    """A candidate's validation quality by epochs trained."""

    candidate: Candidate
    quality: Mapping[int, float]


@dataclass(frozen=True, eq=False)
class QualityModel:
    """The process, conditioned on curves; `vectors` tells it of candidates. Scores are by `spread` times as far from `mean`
    as it thinks."""

    vectors: Pipeline
    process: GaussianProcessRegressor
    mean: float
    spread: float

    @classmethod
    def fit(cls, curves: Sequence[Curve], space: Sequence[Candidate], epochs: int) -> QualityModel | None:
        """Learn from finished rungs of students of `space`; `epochs` is the last one's, for which it predicts. None while
        fewer than `LEAST_FINISHED` students have come so far."""
        known = [curve for curve in curves if epochs in curve.quality]
        if len(known) < LEAST_FINISHED:
            return None
        vectors = make_pipeline(DictVectorizer(sparse=False, sort=False), StandardScaler())
        vectors.fit([_described(candidate) for candidate in space])
        final, blur = _scores(known, epochs), np.full(len(known), BLUR)
        mean = float(final.mean())
        unfinished = [curve for curve in curves if epochs not in curve.quality]
        for rung in sorted({max(curve.quality) for curve in unfinished}, reverse=True):
            early = [curve for curve in unfinished if max(curve.quality) == rung]
            if taught := [place for place, curve in enumerate(known) if rung in curve.quality]:
                expected, unsure = _final([known[place] for place in taught], final[taught], early, rung, vectors)
                known += early
                final, blur = np.append(final, expected), np.append(blur, unsure)
        at = _seen(known, vectors)
        misses = final - mean - TREND * at[:, 0]
        process = GaussianProcessRegressor(LAW**2 * RBF(LENGTH) + LUCK**2 * RBF(1e-4), alpha=blur**2, optimizer=None)
        surprise = float(misses @ process.fit(at, misses).alpha_)
        return cls(vectors, process, mean, math.sqrt((2 * FIRM + surprise) / (2 * FIRM + len(known))))

    def predict(self, candidates: Sequence[Candidate]) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation [n] of the final score (`scored`), which the last rung shows blurred."""
        at = self.vectors.transform([_described(candidate) for candidate in candidates])
        miss, deviation = self.process.predict(at, return_std=True)
        return self.mean + TREND * at[:, 0] + miss, self.spread * deviation

    def reach(self, candidates: Sequence[Candidate], qualities: Sequence[float]) -> FloatArray:
        """P(final quality > its entry of `qualities`) [n]; 0 for 1 and more. What the last rung's blur may add is no
        reason to train a student."""
        mean, deviation = self.predict(candidates)
        wanted = np.array([scored(quality) if quality < 1 else math.inf for quality in qualities])
        return np.asarray(stats.t.sf((wanted - mean) / deviation, TAILS))

    def intervals(self, candidates: Sequence[Candidate]) -> list[tuple[float, float, float]]:
        """Lower end, middle and upper end of the quality that each candidate would show after the last rung, at 95%."""
        mean, deviation = self.predict(candidates)
        half = float(stats.norm.ppf(0.975)) * np.hypot(deviation, self.spread * BLUR)
        return [(unscored(m - h), unscored(m), unscored(m + h)) for m, h in zip(mean, half, strict=True)]


def scored(quality: float) -> float:
    """-log(share of errors)."""
    return -math.log(max(1 - quality, LEAST_ERROR))


def unscored(score: float) -> float:
    """The quality with that score; 0 for a score below it, which a wide interval may reach."""
    return max(0.0, 1 - math.exp(-score))


def _described(candidate: Candidate) -> dict[str, str | float]:
    """Logs of sizes, multiply-adds first, and family."""
    spec = candidate.spec
    sizes = (candidate.multiply_adds, candidate.parameters, spec.resolution, spec.depth, spec.width)
    return {**{f"size {n}": math.log(max(size, 1e-3)) for n, size in enumerate(sizes)}, "family": spec.family}


def _seen(curves: Sequence[Curve], vectors: Pipeline) -> FloatArray:
    """What the process knows of the curves' candidates [n, k]."""
    return np.asarray(vectors.transform([_described(curve.candidate) for curve in curves]))


def _scores(curves: Sequence[Curve], epochs: int) -> FloatArray:
    return np.array([scored(curve.quality[epochs]) for curve in curves])


def _final(
    taught: Sequence[Curve], final: FloatArray, early: Sequence[Curve], rung: int, vectors: Pipeline
) -> tuple[FloatArray, FloatArray]:
    """Final scores [n] that the `early` ones' last rung lets expect, and their standard deviations [n], from those that were
    `taught` on and their `final` scores: how far it still was from there, by the score itself and a little by the size."""
    variance, half = np.array([EARLY_BLUR, SLOPE]) ** 2, FIRM / 2
    line = BayesianRidge(alpha_1=half, alpha_2=half * variance[0], lambda_1=half, lambda_2=half * variance[1])
    before, now = (np.c_[_scores(group, rung), HINT * _seen(group, vectors)] for group in (taught, early))
    way, unsure = line.fit(before, final - before[:, 0]).predict(now, return_std=True)
    return now[:, 0] + way, unsure
