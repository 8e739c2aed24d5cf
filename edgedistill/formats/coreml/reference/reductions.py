"""Reductions over axes, running sums, sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import Implementation, MilCall, operation


def _log_sum_exp(x: NDArray[Any], axis: Any, keepdims: bool) -> NDArray[Any]:
    largest = x.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0)
    result = np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift
    return np.asarray(result if keepdims else np.squeeze(result, axis=axis))


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_l1_norm": lambda x, axis, keepdims: np.abs(x).sum(axis=axis, keepdims=keepdims),
    "reduce_l2_norm": lambda x, axis, keepdims: np.sqrt(np.square(x).sum(axis=axis, keepdims=keepdims)),
    "reduce_sum_square": lambda x, axis, keepdims: np.square(x).sum(axis=axis, keepdims=keepdims),
    "reduce_log_sum": lambda x, axis, keepdims: np.log(x.sum(axis=axis, keepdims=keepdims)),
    "reduce_log_sum_exp": _log_sum_exp,
}


def _reduction(function: Callable[..., Any]) -> Implementation:
    def compute(call: MilCall) -> NDArray[Any]:
        x = call.real("x")
        axes = tuple(call.integers("axes", range(x.ndim)))
        return np.asarray(function(x, axis=axes, keepdims=call.scalar("keep_dims", False)))

    return compute


for _name, _function in _REDUCTIONS.items():
    operation(_name)(_reduction(_function))


@operation("reduce_argmax", "reduce_argmin")
def arg(call: MilCall) -> NDArray[Any]:
    """The first of several equal ones."""
    find = np.argmax if call.operation.op_type == "reduce_argmax" else np.argmin
    return np.asarray(find(call["x"], axis=call.scalar("axis", -1), keepdims=call.scalar("keep_dims", True)))


@operation("cumsum")
def cumsum(call: MilCall) -> NDArray[Any]:
    x, axis = call.real("x"), call.scalar("axis", 0)
    backwards, exclusive = call.scalar("reverse", False), call.scalar("exclusive", False)
    ordered = np.flip(x, axis) if backwards else x
    sums = np.cumsum(ordered, axis=axis)
    if exclusive:
        sums = sums - ordered
    return np.flip(sums, axis) if backwards else sums


def _order(x: NDArray[Any], axis: int, ascending: bool) -> NDArray[Any]:
    keys = x.astype(np.float64)
    return np.argsort(keys if ascending else -keys, axis=axis, kind="stable")


@operation("argsort")
def argsort(call: MilCall) -> NDArray[Any]:
    return _order(np.asarray(call["x"]), call.scalar("axis", -1), call.scalar("ascending", False))


@operation("topk")
def topk(call: MilCall) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
    x, axis = np.asarray(call["x"]), call.scalar("axis", -1)
    indices = np.take(_order(x, axis, call.scalar("ascending", False)), range(call.scalar("k", 1)), axis=axis)
    values = np.take_along_axis(x, indices, axis=axis)
    return (values, indices) if call.scalar("return_indices", True) else values
