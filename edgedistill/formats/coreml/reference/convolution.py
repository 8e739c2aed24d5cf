"""Convolution, transposed convolution and pooling, by torch in single precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edgedistill.formats.coreml.limits import check_size
from edgedistill.formats.coreml.reference.registry import MilCall, operation

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVG_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _optional(call: MilCall, name: str) -> Tensor | None:
    return None if call.get(name) is None else call.tensor(name)


def _pads(
    call: MilCall, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros before and after each spatial dimension."""
    kind = call.scalar("pad_type", "valid")
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        pad = call.integers("pad", [0] * 2 * len(sizes))
        return list(zip(pad[::2], pad[1::2], strict=True))
    pads = []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, stride * math.ceil(size / stride) - size + (extent - 1) * dilation + 1 - stride)
        small, large = total // 2, total - total // 2
        pads.append((large, small) if kind == "same_lower" else (small, large))
    return pads


def _padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    lengths = [size + sum(pair) for size, pair in zip(x.shape[2:], pads, strict=True)]
    check_size([*x.shape[:2], *lengths], "the padded input of a convolution or pooling")
    return F.pad(x, [size for pair in reversed(pads) for size in pair], value=value)


def _steps(call: MilCall, spatial: int) -> tuple[list[int], list[int], int]:
    """Strides, dilations and groups."""
    ones = [1] * spatial
    return call.integers("strides", ones), call.integers("dilations", ones), call.scalar("groups", 1)


@operation("conv")
def conv(call: MilCall) -> NDArray[Any]:
    x, weight = call.tensor("x"), call.tensor("weight")
    spatial = x.ndim - 2
    strides, dilations, groups = _steps(call, spatial)
    pads = _pads(call, x.shape[2:], weight.shape[2:], strides, dilations)
    return _CONV[spatial - 1](_padded(x, pads), weight, _optional(call, "bias"), strides, 0, dilations, groups).numpy()


@operation("conv_transpose")
def conv_transpose(call: MilCall) -> NDArray[Any]:
    """The full transposed convolution, cropped to what the padding leaves; zeros where `output_shape` asks for more."""
    x, weight = call.tensor("x"), call.tensor("weight")
    spatial = x.ndim - 2
    strides, dilations, groups = _steps(call, spatial)
    lengths = [
        (size - 1) * stride + (extent - 1) * dilation + 1
        for size, extent, stride, dilation in zip(x.shape[2:], weight.shape[2:], strides, dilations, strict=True)
    ]
    check_size([len(x), weight.shape[1] * groups, *lengths], "the uncropped output of a transposed convolution")
    full = _TRANSPOSED[spatial - 1](x, weight, None, strides, 0, 0, groups, dilations)
    kind = call.scalar("pad_type", "valid")
    pad = call.integers("pad", [0] * 2 * spatial)
    for axis, size in enumerate(map(int, call.operation.outputs[0].shape[2:])):
        extra = full.shape[axis + 2] - size
        before = pad[2 * axis] if kind == "custom" else max(0, extra // 2) if kind.startswith("same") else 0
        kept = full.narrow(axis + 2, before, min(size, full.shape[axis + 2] - before))
        missing = size - kept.shape[axis + 2]
        zeros = [(0, 0)] * spatial
        zeros[axis] = (0, missing)
        full = _padded(kept, zeros) if missing else kept
    if (bias := _optional(call, "bias")) is not None:
        full = full + bias.reshape(-1, *[1] * spatial)
    return full.numpy()


def _pool_geometry(call: MilCall) -> tuple[Tensor, list[int], list[int], list[tuple[int, int]]]:
    """Input, kernel, strides and pads; with ceil_mode the pads reach as far as the last window."""
    x = call.tensor("x")
    kernel = call.integers("kernel_sizes")
    strides = call.integers("strides", [1] * len(kernel))
    pads = _pads(call, x.shape[2:], kernel, strides, [1] * len(kernel))
    if call.scalar("ceil_mode", False):
        wanted = map(int, call.operation.outputs[0].shape[2:])
        pads = [
            (before, max(after, (count - 1) * stride + extent - size - before))
            for (before, after), count, stride, extent, size in zip(
                pads, wanted, strides, kernel, x.shape[2:], strict=True
            )
        ]
    return x, kernel, strides, pads


@operation("max_pool")
def max_pool(call: MilCall) -> NDArray[Any]:
    x, kernel, strides, pads = _pool_geometry(call)
    return _MAX_POOL[len(kernel) - 1](_padded(x, pads, -math.inf), kernel, strides).numpy()


def _window_sums(x: Tensor, kernel: list[int], strides: list[int]) -> Tensor:
    return _AVG_POOL[len(kernel) - 1](x, kernel, strides) * math.prod(kernel)


@operation("avg_pool")
def avg_pool(call: MilCall) -> NDArray[Any]:
    """Padding counts in the denominator unless it is excluded; what ceil_mode adds beyond the stated padding never does."""
    x, kernel, strides, pads = _pool_geometry(call)
    sums = _window_sums(_padded(x, pads), kernel, strides)
    ones = torch.ones_like(x[:1, :1])
    if not call.scalar("exclude_padding_from_average", False):
        stated = _pads(call, x.shape[2:], kernel, strides, [1] * len(kernel))
        ones = _padded(ones, stated, 1.0)
        pads = [(0, full[1] - part[1]) for full, part in zip(pads, stated, strict=True)]
    counts = _window_sums(_padded(ones, pads), kernel, strides)
    return (sums / counts).numpy()


@operation("l2_pool")
def l2_pool(call: MilCall) -> NDArray[Any]:
    x, kernel, strides, pads = _pool_geometry(call)
    return _window_sums(_padded(x, pads).square(), kernel, strides).clamp(min=0).sqrt().numpy()
