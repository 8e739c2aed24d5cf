"""Random tensors. The distributions are Core ML's, the values are not: its generator is not published."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.limits import check_size
from edgedistill.formats.coreml.reference.registry import MilCall, operation


def _generator(call: MilCall) -> np.random.Generator:
    """The same values in every run for a seed that is not negative."""
    seed = call.scalar("seed", -1)
    return np.random.default_rng(seed if seed >= 0 else None)


@operation("random_bernoulli")
def random_bernoulli(call: MilCall) -> NDArray[Any]:
    return np.asarray(_generator(call).random(call.integers("shape")) < call.scalar("prob", 0.5))


@operation("random_normal")
def random_normal(call: MilCall) -> NDArray[Any]:
    return _generator(call).normal(call.scalar("mean", 0.0), call.scalar("stddev", 1.0), call.integers("shape"))


@operation("random_uniform")
def random_uniform(call: MilCall) -> NDArray[Any]:
    return _generator(call).uniform(call.scalar("low", 0.0), call.scalar("high", 1.0), call.integers("shape"))


@operation("random_categorical")
def random_categorical(call: MilCall) -> NDArray[Any]:
    """Classes drawn with replacement along the last dimension, by where uniform numbers fall among the summed shares."""
    x, size = call.real("x").astype(np.float64), call.scalar("size", 1)
    powers = np.exp(x - x.max(axis=-1, keepdims=True)) if call.scalar("mode", "logits") == "logits" else x
    limits = np.cumsum(powers / powers.sum(axis=-1, keepdims=True), axis=-1)
    check_size([*x.shape[:-1], size, x.shape[-1]], "the comparisons of a random_categorical")
    drawn = _generator(call).random((*x.shape[:-1], size))
    return np.asarray((drawn[..., None] >= limits[..., None, :-1]).sum(axis=-1))
