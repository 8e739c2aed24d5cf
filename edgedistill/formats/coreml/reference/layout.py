"""Operations that move values without computing with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import MilCall, operation


@operation("concat")
def concat(call: MilCall) -> NDArray[Any]:
    """Scalars become a vector. Interleaved: one slice of each in turn."""
    values = [np.asarray(value) for value in call["values"]]
    axis = call.scalar("axis", 0)
    if values[0].ndim == 0:
        return np.stack(values, axis=axis)
    if not call.scalar("interleave", False):
        return np.concatenate(values, axis=axis)
    axis %= values[0].ndim
    shape = list(values[0].shape)
    shape[axis] *= len(values)
    return np.stack(values, axis=axis + 1).reshape(shape)


@operation("stack")
def stack(call: MilCall) -> NDArray[Any]:
    return np.stack([np.asarray(value) for value in call["values"]], axis=call.scalar("axis", 0))


@operation("squeeze")
def squeeze(call: MilCall) -> NDArray[Any]:
    axes = call.integers("axes")
    return np.squeeze(np.asarray(call["x"]), axis=tuple(axes) if axes else None)


@operation("flatten2d")
def flatten2d(call: MilCall) -> NDArray[Any]:
    """The dimensions before the axis to one, those from it on to another."""
    x = np.asarray(call["x"])
    rows = math.prod(x.shape[: call.scalar("axis", 1)])
    return x.reshape(rows, x.size // rows)


@operation("reverse_sequence")
def reverse_sequence(call: MilCall) -> NDArray[Any]:
    """The first `lengths[i]` entries of the i-th sequence backwards, the rest as they are."""
    x, axis, batch = np.asarray(call["x"]), call.scalar("seq_axis", 0), call.scalar("batch_axis", 0)
    moved = np.moveaxis(x, (batch, axis), (0, 1))
    result = moved.copy()
    for index, length in enumerate(call.integers("lengths")):
        result[index, :length] = moved[index, :length][::-1]
    return np.moveaxis(result, (0, 1), (batch, axis))


@operation("shape")
def shape(call: MilCall) -> NDArray[Any]:
    return np.array(np.shape(call["x"]), np.int32)


@operation("range_1d")
def range_1d(call: MilCall) -> NDArray[Any]:
    return np.arange(call.scalar("start"), call.scalar("end"), call.scalar("step"))


@operation("fill_like")
def fill_like(call: MilCall) -> NDArray[Any]:
    return np.full(np.shape(call["ref_tensor"]), call.scalar("value", 0.0))


@operation("reshape_like")
def reshape_like(call: MilCall) -> NDArray[Any]:
    sizes: list[int] = []
    parts = zip(call["ref_tensors"], call["begins"], call["ends"], call["end_masks"], strict=True)
    for reference, begin, end, to_the_end in parts:
        sizes += np.shape(reference)[int(begin) : None if to_the_end else int(end)]
    return np.reshape(call["x"], sizes)


@operation("crop")
def crop(call: MilCall) -> NDArray[Any]:
    x = np.asarray(call["x"])
    (top, bottom), (left, right) = call.integers("crop_height"), call.integers("crop_width")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@operation("sliding_windows")
def sliding_windows(call: MilCall) -> NDArray[Any]:
    x = np.asarray(call["x"])
    axis = call.scalar("axis") % x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, call.scalar("size"), axis=axis)
    kept = np.take(windows, range(0, windows.shape[axis], call.scalar("stride", 1)), axis=axis)
    return np.moveaxis(kept, -1, axis + 1)


def _spread(x: NDArray[Any], block: int, *, block_first: bool) -> NDArray[Any]:
    """Channels into blocks of pixels. The channel number holds the block's position and the new channel, the one that comes
    first being the slower part."""
    n, c, h, w = x.shape
    channels = c // block**2
    if block_first:
        parts = x.reshape(n, block, block, channels, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, channels, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, channels, h * block, w * block)


def _gathered(x: NDArray[Any], block: int, *, block_first: bool) -> NDArray[Any]:
    """Blocks of pixels into channels: what `_spread` undoes."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if block_first else (0, 1, 3, 5, 2, 4)
    return parts.transpose(order).reshape(n, c * block**2, h // block, w // block)


@operation("depth_to_space")
def depth_to_space(call: MilCall) -> NDArray[Any]:
    return _spread(np.asarray(call["x"]), call.scalar("block_size"), block_first=True)


@operation("space_to_depth")
def space_to_depth(call: MilCall) -> NDArray[Any]:
    return _gathered(np.asarray(call["x"]), call.scalar("block_size"), block_first=True)


@operation("pixel_shuffle")
def pixel_shuffle(call: MilCall) -> NDArray[Any]:
    return _spread(np.asarray(call["x"]), call.scalar("upscale_factor"), block_first=False)


@operation("pixel_unshuffle")
def pixel_unshuffle(call: MilCall) -> NDArray[Any]:
    return _gathered(np.asarray(call["x"]), call.scalar("downscale_factor"), block_first=False)


@operation("space_to_batch")
def space_to_batch(call: MilCall) -> NDArray[Any]:
    x, (rows, columns) = np.asarray(call["x"]), call.integers("block_shape")
    padding = np.asarray(call["paddings"]).reshape(2, 2)
    x = np.pad(x, [(0, 0), (0, 0), *map(tuple, padding.tolist())])
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // rows, rows, w // columns, columns)
    return parts.transpose(3, 5, 0, 1, 2, 4).reshape(n * rows * columns, c, h // rows, w // columns)


@operation("batch_to_space")
def batch_to_space(call: MilCall) -> NDArray[Any]:
    x, (rows, columns) = np.asarray(call["x"]), call.integers("block_shape")
    (top, bottom), (left, right) = np.asarray(call["crops"]).reshape(2, 2).tolist()
    n, c, h, w = x.shape
    parts = x.reshape(rows, columns, n // (rows * columns), c, h, w)
    whole = parts.transpose(2, 3, 4, 0, 5, 1).reshape(n // (rows * columns), c, h * rows, w * columns)
    return whole[:, :, top : h * rows - bottom, left : w * columns - right]
