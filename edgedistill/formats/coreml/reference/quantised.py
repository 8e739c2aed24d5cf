"""What a quantised activation stands for. Compressed weights are expanded by coremltools itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import MilCall, operation


def _along(parameter: NDArray[Any], rank: int, axis: int | None) -> NDArray[Any]:
    """A scalar or vector shaped to broadcast along `axis` of a tensor of `rank` dimensions."""
    if parameter.ndim == 0 or parameter.size == 1 or axis is None:
        return parameter.reshape(())
    shape = [1] * rank
    shape[axis] = parameter.size
    return parameter.reshape(shape)


def _affine(call: MilCall) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    x, axis = call.real("input"), call.scalar("axis")
    zero = np.asarray(call.get("zero_point", 0)).astype(np.float32)
    return x, _along(call.real("scale"), x.ndim, axis), _along(zero, x.ndim, axis)


@operation("quantize")
def quantize(call: MilCall) -> NDArray[Any]:
    """Round half to even, then clip to the integers of the output type."""
    x, scale, zero = _affine(call)
    limits = np.iinfo(call.scalar("output_dtype"))
    return np.asarray(np.clip(np.rint(x / scale) + zero, limits.min, limits.max))


@operation("dequantize")
def dequantize(call: MilCall) -> NDArray[Any]:
    x, scale, zero = _affine(call)
    return np.asarray((x.astype(np.float32) - zero) * scale)
