"""Probabilities that mean something: of pictures answered with 80%, 80% should be right.

Logits are divided by one number, the temperature, before the softmax (Guo et al. 2017, https://arxiv.org/abs/1706.04599,
section 4.2). It changes no answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 15
"""Of the expected calibration error, as in Guo et al."""
COLDEST: Final = 0.05
HOTTEST: Final = 20.0
"""What a temperature lies between."""

Logits = NDArray[np.floating]
Labels = NDArray[np.number]


def probabilities(logits: Logits, temperature: float = 1.0) -> NDArray[np.float64]:
    """softmax(logits / temperature) of logits float [n, C], float64 [n, C]."""
    scaled = logits.astype(np.float64) / temperature
    found = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = found / found.sum(axis=1, keepdims=True)
    return shares


def temperature_of(logits: Logits, labels: Labels) -> float:
    """The temperature with the least cross entropy to labels int [n] of logits float [n, C], COLDEST to HOTTEST; 1 for a
    single class.

    A label counts as (n + 1) / (n + 2) and each other class as its part of the rest (Platt 1999, "Probabilistic outputs for
    support vector machines", section 2.2): where all of a few images are right, the answers are not certain for that."""
    from scipy.optimize import minimize_scalar

    count, classes = logits.shape
    if classes < 2:
        return 1.0
    right = (count + 1) / (count + 2)
    wide = logits.astype(np.float64)
    own = wide[np.arange(count), labels.astype(np.intp)]
    aimed = right * own + (1 - right) * (wide.sum(axis=1) - own) / (classes - 1)

    def cross_entropy(log_temperature: float) -> float:
        scaled = wide / np.exp(log_temperature)
        largest = scaled.max(axis=1)
        total = largest + np.log(np.exp(scaled - largest[:, None]).sum(axis=1))
        return float((total - aimed / np.exp(log_temperature)).mean())

    # Convex in the inverse of the temperature, so it has one minimum in the logarithm too.
    found = minimize_scalar(cross_entropy, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> list[tuple[int, float, float]]:
    """Of answers with a `confidence` [n] in 0..1, by BINS equal parts of that the parts that have any: how many, their mean
    confidence, and the share that is `right`, bool [n]."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        (int(own.sum()), float(confidence[own].mean()), float(right[own].mean()))
        for number in range(BINS)
        if (own := place == number).any()
    ]


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """The expected calibration error (Guo et al., equation 3): over the parts of `reliability` the mean distance of
    confidence and accuracy, each part weighing as many images as it has."""
    return sum(images * abs(mean - share) for images, mean, share in reliability(confidence, right)) / len(right)


def none_below(confidence: NDArray[np.floating], right: NDArray[np.bool_], lost: float) -> float:
    """The confidence below which the share `lost`, at most, of the right answers lies; 0 where no answer is right."""
    own = np.sort(confidence[right])
    return float(own[int(lost * len(own))]) if len(own) else 0.0
