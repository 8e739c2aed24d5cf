"""Normalisations, in single precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import MilCall, operation


def _centred(x: NDArray[Any], axes: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """`x` about its mean, and its variance, over `axes`."""
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred, np.square(centred).sum(axis=axes, keepdims=True) / math.prod(x.shape[axis] for axis in axes)


def _channels(call: MilCall, name: str, rank: int, default: float) -> NDArray[Any]:
    """A vector of channels shaped to broadcast along dimension 1."""
    if call.get(name) is None:
        return np.asarray(default, np.float32)
    return call.real(name).reshape(1, -1, *[1] * (rank - 2))


@operation("batch_norm")
def batch_norm(call: MilCall) -> NDArray[Any]:
    x = call.real("x")
    mean, variance = _channels(call, "mean", x.ndim, 0.0), _channels(call, "variance", x.ndim, 1.0)
    gamma, beta = _channels(call, "gamma", x.ndim, 1.0), _channels(call, "beta", x.ndim, 0.0)
    return np.asarray((x - mean) / np.sqrt(variance + call.scalar("epsilon", 1e-5)) * gamma + beta)


@operation("instance_norm")
def instance_norm(call: MilCall) -> NDArray[Any]:
    x = call.real("x")
    centred, variance = _centred(x, tuple(range(2, x.ndim)))
    gamma, beta = _channels(call, "gamma", x.ndim, 1.0), _channels(call, "beta", x.ndim, 0.0)
    return np.asarray(centred / np.sqrt(variance + call.scalar("epsilon", 1e-5)) * gamma + beta)


@operation("layer_norm")
def layer_norm(call: MilCall) -> NDArray[Any]:
    x = call.real("x")
    axes = tuple(sorted(axis % x.ndim for axis in call.integers("axes", range(x.ndim))))
    centred, variance = _centred(x, axes)
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    result = centred / np.sqrt(variance + call.scalar("epsilon", 1e-5))
    if call.get("gamma") is not None:
        result = result * call.real("gamma").reshape(shape)
    if call.get("beta") is not None:
        result = result + call.real("beta").reshape(shape)
    return np.asarray(result)


@operation("local_response_norm")
def local_response_norm(call: MilCall) -> NDArray[Any]:
    """Over `size` neighbouring channels; the window of an even size reaches further back than forward."""
    x, size = call.real("x"), call.scalar("size")
    widths = [(0, 0)] * x.ndim
    widths[1] = (size // 2, (size - 1) // 2)
    squares = np.pad(np.square(x), widths)
    sums = sum(squares[:, offset : offset + x.shape[1]] for offset in range(size))
    scale = call.scalar("k", 1.0) + call.scalar("alpha", 1e-4) / size * sums
    return np.asarray(x / scale ** call.scalar("beta", 0.75))


@operation("l2_norm")
def l2_norm(call: MilCall) -> NDArray[Any]:
    """Over the last three dimensions."""
    x = call.real("x")
    square = np.square(x).sum(axis=(-3, -2, -1), keepdims=True)
    return np.asarray(x / np.sqrt(square + call.scalar("epsilon", 1e-6)))
