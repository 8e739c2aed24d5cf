"""Operations of one element each that coremltools does not evaluate, or evaluates loosely."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from edgedistill.formats.coreml.reference.registry import Implementation, MilCall, operation


def _binary(function: Callable[[Any, Any], Any]) -> Implementation:
    def compute(call: MilCall) -> NDArray[Any]:
        return np.asarray(function(call.real("x"), call.real("y")))

    return compute


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "pow": np.power,
    "mod": np.mod,
    "floor_div": np.floor_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}

for _name, _function in _BINARY.items():
    operation(_name)(_binary(_function))


@operation("real_div")
def real_div(call: MilCall) -> NDArray[Any]:
    """Division; of integers, rounded towards zero as the result's type says."""
    x, y = call.real("x"), call.real("y")
    if np.issubdtype(x.dtype, np.integer) and np.issubdtype(y.dtype, np.integer):
        return np.asarray(np.trunc(np.true_divide(x, y)))
    return np.asarray(np.true_divide(x, y))


@operation("silu")
def silu(call: MilCall) -> NDArray[Any]:
    x = call.real("x")
    return np.asarray(x / (1 + np.exp(-x)))


@operation("softmax")
def softmax(call: MilCall) -> NDArray[Any]:
    x, axis = call.real("x"), call.scalar("axis", -1)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


@operation("gelu")
def gelu(call: MilCall) -> NDArray[Any]:
    x, mode = call.tensor("x"), call.scalar("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return (x * torch.sigmoid(1.702 * x)).numpy()
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh").numpy()


@operation("erf")
def erf(call: MilCall) -> NDArray[Any]:
    return torch.erf(call.tensor("x")).numpy()
