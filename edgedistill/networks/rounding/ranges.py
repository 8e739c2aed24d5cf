"""The range of an activation from the histogram of its values: what `Calibration` means, whatever collected it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgedistill.documents.specs import Calibration

LEFT_OUT = 1e-5
"""Share of the values that `percentile` leaves out, half of it at each end."""

_LEVELS = 256
_STRIDE = 8


def chosen_range(
    calibration: Calibration, histogram: NDArray[np.float64], low: float, high: float
) -> tuple[float, float]:
    """The range that `calibration` takes for values whose `histogram` has equal bins over [low, high]."""
    if calibration is Calibration.PERCENTILE:
        return percentile_range(histogram, low, high)
    if calibration is Calibration.ENTROPY:
        return entropy_range(histogram, low, high)
    return low, high


def percentile_range(histogram: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The range that leaves LEFT_OUT of a histogram over [low, high] out, to the edge of a bin."""
    shares = np.cumsum(histogram) / histogram.sum()
    first = int(np.searchsorted(shares, LEFT_OUT / 2, side="right"))
    last = int(np.searchsorted(shares, 1 - LEFT_OUT / 2, side="left"))
    width = (high - low) / len(histogram)
    return low + first * width, low + (min(last, len(histogram) - 1) + 1) * width


def entropy_range(histogram: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The range around zero whose histogram, rounded to 256 levels, has the smallest divergence from the full one with its
    outliers moved to the edges (Migacz, "8-bit inference with TensorRT", 2017)."""
    reach = max(abs(low), abs(high))
    if reach == 0 or high <= low:
        return low, high
    half = len(histogram) // 2
    centres = low + (np.arange(len(histogram)) + 0.5) * (high - low) / len(histogram)
    places = np.clip(((centres / reach + 1) * half).astype(int), 0, 2 * half - 1)
    around_zero = np.bincount(places, weights=histogram, minlength=2 * half).astype(np.float64)
    # Zero has a code of its own, so that a heap of zeros, as a ReLU leaves, is rounded for free.
    around_zero[half] = min(around_zero[half], around_zero[half + 1])
    around_zero[half - 1] = min(around_zero[half - 1], around_zero[half - 2])
    occupied = np.flatnonzero(around_zero)
    if len(occupied) == 0:
        return low, high
    begin, end = int(occupied[0]), int(occupied[-1]) + 1

    def ends(kept: int) -> tuple[int, int]:
        return max(begin, half - kept), min(end, half + kept)

    wide_enough = [kept for kept in range(_LEVELS // 2, half + 1, _STRIDE) if np.diff(ends(kept)) >= _LEVELS]
    if not wide_enough:
        return low, high
    best = min(wide_enough, key=lambda kept: _divergence(around_zero, *ends(kept)))
    limit = reach * best / half
    return max(low, -limit), min(high, limit)


def _divergence(histogram: NDArray[np.float64], begin: int, end: int) -> float:
    """Kullback-Leibler divergence of the bins in [begin, end), rounded, from the same with outliers."""
    inside = histogram[begin:end]
    reference = inside.copy()
    reference[0] += histogram[:begin].sum()
    reference[-1] += histogram[end:].sum()
    levels = np.arange(len(inside)) * _LEVELS // len(inside)
    occupied = inside > 0
    sums = np.bincount(levels, weights=inside, minlength=_LEVELS)
    counts = np.bincount(levels, weights=occupied, minlength=_LEVELS)
    rounded = np.where(occupied, sums[levels] / np.maximum(counts[levels], 1), 0)
    p, q = reference / max(reference.sum(), 1e-30), rounded / max(rounded.sum(), 1e-30)
    # An outlier's bin that is empty inside has no counterpart after rounding: a floor keeps its cost finite.
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-10))))
