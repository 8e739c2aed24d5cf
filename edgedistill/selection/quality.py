"""How accurate an untrained student would become, learnt from the rungs that others have finished.

Each student has a final score, a Gaussian process (Rasmussen and Williams 2006, chapters 2 and 5) over its size, with an
offset for its family and one for its own luck; each rung shows that score stretched, shifted and blurred. What a rung tells
of the final score is learnt from students that finished both, so that an early rung counts as much as it is worth and no
more. Accuracy is learnt as -log(share of errors), in which a step from 90% to 95% is as long as one from 80% to 90%.
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

LEAST_FINISHED = 2
"""Students that have to have come to the last rung before anything is said of the others."""
LEAST_ERROR = 1e-3
"""Errors below this share count as this: a small validation split may show none."""
TREND = 0.05
"""By how much the score is thought to grow with a standard deviation of log multiply-adds before any row is seen: of one
family, the larger is the better one until rows say otherwise."""
LEARNT_FROM = 60
"""Students from which hyperparameters are learnt, which takes the cube of their number dozens of times; of more, so many
that stand for all. Every student's rungs count in what is predicted with them."""
SHIFT = 1.0
"""Standard deviation of a rung's shift against the mean of all: nothing is known of it beforehand."""

# What the logs of the hyperparameters are thought to be before any row is seen, and how firmly: standard deviations of the
# score that size (linearly), family, size (any smooth law) and luck explain, the length of that law in standard deviations
# of size; how far a family's early rungs are off as a whole, since some learn late; for each rung how much it stretches the
# score and how much it blurs it.
_PRIOR = {
    "linear": 0.08,
    "family": 0.06,
    "smooth": 0.05,
    "luck": 0.05,
    "length": 2.0,
    "late": 0.3,
    "stretch": 1.0,
    "blur": 0.1,
}
_FIRMNESS = {"luck": 0.5, "length": 0.5, "late": 0.3, "stretch": 0.5}
_FIRM = 0.7
_SHARED = ("linear", "family", "smooth", "luck", "length", "late")


@dataclass(frozen=True)
class Curve:
    """A candidate's validation accuracy by epochs trained."""

    candidate: Candidate
    accuracy: Mapping[int, float]


@dataclass(frozen=True, eq=False)
class _Students:
    """Sizes [n, k], standardised, and numbers of families and of the students themselves, [n] each."""

    sizes: FloatArray
    family: NDArray[np.int64]
    identity: NDArray[np.int64]

    def take(self, which: NDArray[np.int64]) -> _Students:
        return _Students(self.sizes[which], self.family[which], self.identity[which])


@dataclass(frozen=True, eq=False)
class QualityModel:
    """The process, conditioned on curves."""

    numbers: Mapping[Candidate, int]
    families: Mapping[str, int]
    centre: FloatArray
    scale: FloatArray
    seen: _Students
    stretch: FloatArray
    hyper: Mapping[str, float]
    weights: FloatArray
    factor: tuple[FloatArray, bool]
    mean: float
    blur: float
    """Standard deviation of what the last rung shows about its student's final score."""

    @classmethod
    def fit(cls, curves: Sequence[Curve], space: Sequence[Candidate], epochs: int) -> QualityModel | None:
        """Learn from finished rungs; `epochs` is the last one's, for which it predicts. None while fewer than
        `LEAST_FINISHED` students have come so far."""
        if sum(epochs in curve.accuracy for curve in curves) < LEAST_FINISHED:
            return None
        known = [curve.candidate for curve in curves]
        names = sorted({candidate.spec.family for candidate in (*space, *known)})
        families = {name: number for number, name in enumerate(names)}
        sizes = np.array([_size(candidate) for candidate in (*space, *known)])
        centre, scale = sizes.mean(axis=0), np.maximum(sizes.std(axis=0), 1e-6)
        numbers = {candidate: number for number, candidate in enumerate(known)}
        students = _students(known, numbers, families, centre, scale)
        rungs = sorted({e for curve in curves for e in curve.accuracy})
        points = [(n, rungs.index(e), scored(a)) for n, c in enumerate(curves) for e, a in sorted(c.accuracy.items())]
        which, rung = (np.array([point[k] for point in points]) for k in (0, 1))
        score = np.array([point[2] for point in points])
        seen, last = students.take(which), rungs.index(epochs)
        mean = float(score[rung == last].mean())
        some = np.isin(which, _standing_for_all(curves, epochs))
        hyper = _learnt(seen.take(np.flatnonzero(some)), rung[some], score[some] - mean, len(rungs), last)
        stretch = _stretch(hyper, rung)
        factor = cho_factor(_observed(seen, rung, hyper, last), lower=True)
        weights = cho_solve(factor, score - mean - stretch * _trend(seen))
        return cls(numbers, families, centre, scale, seen, stretch, hyper, weights, factor, mean, hyper[f"blur {last}"])

    def predict(self, candidates: Sequence[Candidate]) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation [n] of the final score (`scored`), which the last rung shows blurred."""
        at = _students(candidates, self.numbers, self.families, self.centre, self.scale)
        cross = _final(at, self.seen, self.hyper) * self.stretch
        parts = sum(self.hyper[name] ** 2 for name in ("family", "smooth", "luck"))
        own = self.hyper["linear"] ** 2 * (at.sizes**2).mean(axis=1) + parts
        variance = own - np.einsum("ij,ji->i", cross, cho_solve(self.factor, cross.T))
        mean: FloatArray = self.mean + _trend(at) + cross @ self.weights
        deviation: FloatArray = np.sqrt(np.maximum(variance, 1e-8))
        return mean, deviation

    def reach(self, candidates: Sequence[Candidate], accuracies: Sequence[float]) -> FloatArray:
        """P(final accuracy > its entry of `accuracies`) [n]; 0 for 1 and more. What the last rung's blur may add is no
        reason to train a student."""
        mean, deviation = self.predict(candidates)
        wanted = np.array([scored(accuracy) if accuracy < 1 else math.inf for accuracy in accuracies])
        chance: FloatArray = stats.norm.sf((wanted - mean) / deviation)
        return chance

    def intervals(self, candidates: Sequence[Candidate]) -> list[tuple[float, float, float]]:
        """Lower end, middle and upper end of the accuracy that each candidate would show after the last rung, at 95%."""
        mean, deviation = self.predict(candidates)
        half = float(stats.norm.ppf(0.975)) * np.hypot(deviation, self.blur)
        return [(unscored(m - h), unscored(m), unscored(m + h)) for m, h in zip(mean, half, strict=True)]


def scored(accuracy: float) -> float:
    """-log(share of errors)."""
    return -math.log(max(1 - accuracy, LEAST_ERROR))


def unscored(score: float) -> float:
    """The accuracy with that score; 0 for a score below it, which a wide interval may reach."""
    return max(0.0, 1 - math.exp(-score))


def _size(candidate: Candidate) -> list[float]:
    spec = candidate.spec
    return [
        math.log(max(candidate.multiply_adds, 1)),
        math.log(max(candidate.parameters, 1)),
        math.log(spec.resolution),
        math.log(spec.depth),
    ]


def _students(
    candidates: Sequence[Candidate],
    numbers: Mapping[Candidate, int],
    families: Mapping[str, int],
    centre: FloatArray,
    scale: FloatArray,
) -> _Students:
    sizes = (np.array([_size(candidate) for candidate in candidates]) - centre) / scale
    family = np.array([families[candidate.spec.family] for candidate in candidates])
    # One that has no curve yet has luck of its own: a number that no other has.
    identity = np.array([numbers.get(candidate, -1 - place) for place, candidate in enumerate(candidates)])
    return _Students(sizes, family, identity)


def _trend(students: _Students) -> FloatArray:
    trend: FloatArray = TREND * students.sizes[:, 0]
    return trend


def _stretch(hyper: Mapping[str, float], rung: NDArray[np.int64]) -> FloatArray:
    stretch: FloatArray = np.array([hyper[f"stretch {r}"] for r in range(rung.max() + 1)])[rung]
    return stretch


def _final(a: _Students, b: _Students, hyper: Mapping[str, float]) -> FloatArray:
    """Covariance [n, m] of final scores."""
    apart = ((a.sizes[:, None] - b.sizes[None]) ** 2).sum(-1)
    result: FloatArray = (
        hyper["linear"] ** 2 * (a.sizes @ b.sizes.T) / a.sizes.shape[1]
        + hyper["family"] ** 2 * (a.family[:, None] == b.family[None])
        + hyper["smooth"] ** 2 * np.exp(-0.5 * apart / hyper["length"] ** 2)
        + hyper["luck"] ** 2 * (a.identity[:, None] == b.identity[None])
    )
    return result


def _observed(seen: _Students, rung: NDArray[np.int64], hyper: Mapping[str, float], last: int) -> FloatArray:
    """Covariance of what the rungs showed: final scores stretched, each rung shifted as a whole and for each family, each
    point blurred. The last rung is the final score itself: it is blurred, but neither stretched nor shifted."""
    stretch = _stretch(hyper, rung)
    blur = np.array([hyper[f"blur {r}"] for r in range(rung.max() + 1)])[rung]
    early = (rung[:, None] == rung[None]) & (rung != last)[:, None]
    kin = early & (seen.family[:, None] == seen.family[None])
    result: FloatArray = stretch[:, None] * stretch[None] * _final(seen, seen, hyper) + np.diag(blur**2)
    result += SHIFT**2 * early + hyper["late"] ** 2 * kin
    return result


def _standing_for_all(curves: Sequence[Curve], epochs: int) -> list[int]:
    """Places of at most `LEARNT_FROM` curves, evenly over families and sizes; those that came to the last rung before
    others, since they alone tell what the earlier rungs were worth."""

    def place(number: int) -> tuple[str, int, str]:
        candidate = curves[number].candidate
        return candidate.spec.family, candidate.multiply_adds, candidate.spec.label

    chosen: list[int] = []
    for finished in (True, False):
        pool = sorted((n for n, c in enumerate(curves) if (epochs in c.accuracy) is finished), key=place)
        count = min(LEARNT_FROM - len(chosen), len(pool))
        chosen += [pool[k * len(pool) // count] for k in range(count)]
    return chosen


def _learnt(seen: _Students, rung: NDArray[np.int64], score: FloatArray, rungs: int, last: int) -> Mapping[str, float]:
    """The hyperparameters that maximise the marginal likelihood times a log-normal prior: with a handful of rows the prior
    speaks, with many the rows do."""
    names = [*_SHARED, *(f"{kind} {r}" for kind in ("stretch", "blur") for r in range(rungs))]
    names.remove(f"stretch {last}")
    centre = np.array([math.log(_PRIOR[name.split()[0]]) for name in names])
    firmness = np.array([_FIRMNESS.get(name.split()[0], _FIRM) for name in names])

    def named(logs: FloatArray) -> dict[str, float]:
        return {f"stretch {last}": 1.0} | dict(zip(names, np.exp(logs).tolist(), strict=True))

    def loss(logs: FloatArray) -> float:
        hyper = named(logs)
        try:
            lower, _ = factor = cho_factor(_observed(seen, rung, hyper, last), lower=True)
        except np.linalg.LinAlgError:
            return 1e9
        missed = score - _stretch(hyper, rung) * _trend(seen)
        misfit = 0.5 * missed @ cho_solve(factor, missed) + np.log(np.diag(lower)).sum()
        return float(misfit + 0.5 * (((logs - centre) / firmness) ** 2).sum())

    bounds = [(c - 4 * f, c + 4 * f) for c, f in zip(centre, firmness)]
    return named(minimize(loss, centre, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}).x)
