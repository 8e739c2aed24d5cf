"""What a quantised activation stands for. Compressed weights are expanded by coremltools itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import MilCall, along, operation


def _affine(call: MilCall) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The input with scale and zero point, which are scalars or vectors along an axis of it."""
    x, axis = call.real("input"), call.scalar("axis")
    parameters = call.real("scale"), np.asarray(call.get("zero_point", 0)).astype(np.float32)
    scale, zero = (p.reshape(()) if p.size == 1 or axis is None else along(p, x.ndim, axis) for p in parameters)
    return x, scale, zero


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
