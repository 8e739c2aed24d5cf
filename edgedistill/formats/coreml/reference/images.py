"""Resizing, cropping and resampling of the last two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import MilCall, along, operation

Floats = NDArray[Any]


def grid_points(mode: str, size: float, count: int) -> Floats:
    """Where `count` samples lie in an interval of `size` pixels [0, size - 1], by Core ML's name for the rule."""
    steps = np.arange(count, dtype=np.float64)
    aligned = steps * (size - 1) / (count - 1) if count > 1 else np.zeros(count)
    rules: dict[str, Floats] = {
        "STRICT_ALIGN_CORNERS": aligned,
        "ALIGN_CORNERS": np.array([(size - 1) / 2]) if count == 1 else aligned,
        "DEFAULT": steps * size / count,
        "OFFSET_CORNERS": (steps + 0.5) * max(1.0, size - 1) / count,
        "UNALIGN_CORNERS": (steps + 0.5) * size / count - 0.5,
    }
    if mode not in rules:
        raise ValueError(f"no sampling mode {mode}")
    return np.asarray(np.clip(rules[mode], 0, max(size - 1, 0)))


def _resized(x: Floats, mode: str, sizes: dict[int, int]) -> Floats:
    """Linear interpolation along each axis of `sizes`."""
    for axis, size in sizes.items():
        points = grid_points(mode, x.shape[axis], size)
        low = np.floor(points).astype(int)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        weight = along((points - low).astype(np.float32), x.ndim, axis)
        x = np.asarray(x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight)
    return x


@operation("resize_bilinear")
def resize_bilinear(call: MilCall) -> Floats:
    sizes = {-2: call.scalar("target_size_height", 1), -1: call.scalar("target_size_width", 1)}
    return _resized(call.real("x"), call.scalar("sampling_mode", "DEFAULT"), sizes)


def _upsampled(call: MilCall) -> dict[int, int]:
    """Sizes of the last two dimensions after scaling."""
    height, width = np.shape(call["x"])[-2:]
    by_height, by_width = call.scalar("scale_factor_height", 1), call.scalar("scale_factor_width", 1)
    return {-2: int(np.floor(height * by_height)), -1: int(np.floor(width * by_width))}


@operation("upsample_bilinear")
def upsample_bilinear(call: MilCall) -> Floats:
    align = call.scalar("align_corners", True)
    half_pixel = call.scalar("half_pixel_centers", not align)
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    return _resized(call.real("x"), mode, _upsampled(call))


def _nearest(x: Floats, sizes: dict[int, int]) -> Floats:
    for axis, size in sizes.items():
        x = x.take(np.arange(size) * x.shape[axis] // size, axis)
    return x


@operation("upsample_nearest_neighbor")
def upsample_nearest_neighbor(call: MilCall) -> Floats:
    return _nearest(np.asarray(call["x"]), _upsampled(call))


@operation("resize_nearest_neighbor")
def resize_nearest_neighbor(call: MilCall) -> Floats:
    sizes = {-2: call.scalar("target_size_height"), -1: call.scalar("target_size_width")}
    return _nearest(np.asarray(call["x"]), sizes)


@operation("resize")
def resize(call: MilCall) -> Floats:
    """The last `resized_dims` dimensions to the last entries of `shape`; 0 keeps a dimension."""
    x, count = np.asarray(call["x"]), call.scalar("resized_dims")
    wanted = call.integers("shape")[-count:]
    sizes = {axis - count: size or x.shape[axis - count] for axis, size in enumerate(wanted)}
    mode = call.scalar("sampling_mode", "DEFAULT")
    if call.scalar("interpolation_mode", "LINEAR") == "LINEAR":
        return _resized(call.real("x"), mode, sizes)
    for axis, size in sizes.items():
        x = x.take(np.floor(grid_points(mode, x.shape[axis], size) + 0.5).astype(int), axis)
    return x


def _reflected(points: Floats, low: float, high: float) -> Floats:
    """Points folded back into [low, high] at its ends."""
    if high <= low:
        return np.zeros_like(points)
    span = high - low
    folded = np.mod(points - low, 2 * span)
    return np.where(folded > span, 2 * span - folded, folded) + low


def _placed(points: Floats, size: int, padding: str) -> Floats:
    """Points outside the image as the padding rule places them; `constant` leaves them where they are."""
    if padding == "reflection":
        return _reflected(points, 0, size - 1)
    if padding == "symmetric":
        return np.clip(_reflected(points, -0.5, size - 0.5), 0, size - 1)
    return np.clip(points, 0, size - 1) if padding == "border" else points


def _pixels(image: Floats, rows: NDArray[Any], columns: NDArray[Any], outside: float) -> Floats:
    """Pixels [C, ...] of an image [C, H, W], `outside` beyond its borders."""
    height, width = image.shape[1:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    taken = image[:, np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.where(inside, taken, np.float32(outside))


def _sampled(image: Floats, y: Floats, x: Floats, padding: str, outside: float, nearest: bool = False) -> Floats:
    """An image [C, H, W] at points (y, x) of any shape, bilinear or nearest."""
    y, x = _placed(y, image.shape[1], padding), _placed(x, image.shape[2], padding)
    if nearest:
        return _pixels(image, np.rint(y).astype(int), np.rint(x).astype(int), outside)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top).astype(np.float32), (x - left).astype(np.float32)
    above = _pixels(image, top, left, outside) * (1 - right) + _pixels(image, top, left + 1, outside) * right
    below = _pixels(image, top + 1, left, outside) * (1 - right) + _pixels(image, top + 1, left + 1, outside) * right
    return np.asarray(above * (1 - down) + below * down)


def _unnormalised(points: Floats, size: int, mode: str, align: bool) -> Floats:
    if mode == "unnormalized":
        return points
    centred = points * 2 - 1 if mode == "normalized_zero_to_one" else points
    return (centred + 1) / 2 * (size - 1) if align else ((centred + 1) * size - 1) / 2


@operation("resample")
def resample(call: MilCall) -> Floats:
    x, points = call.real("x"), np.asarray(call["coordinates"]).astype(np.float64)
    mode, align = call.scalar("coordinates_mode"), call.scalar("align_corners")
    columns = _unnormalised(points[..., 0], x.shape[3], mode, align)
    rows = _unnormalised(points[..., 1], x.shape[2], mode, align)
    padding, outside = call.scalar("padding_mode"), call.scalar("padding_value")
    nearest = call.scalar("sampling_mode") == "nearest"
    return np.stack([_sampled(x[b], rows[b], columns[b], padding, outside, nearest) for b in range(len(x))])


@operation("affine")
def affine(call: MilCall) -> Floats:
    x, matrices = call.real("x"), call.real("transform_matrix").astype(np.float64)
    y_grid, x_grid = np.meshgrid(
        np.linspace(-1, 1, call.scalar("output_height")), np.linspace(-1, 1, call.scalar("output_width")), indexing="ij"
    )
    results = []
    for image, (a0, a1, a2, b0, b1, b2) in zip(x, np.broadcast_to(matrices, (len(x), 6)), strict=True):
        columns = _unnormalised(a0 * x_grid + a1 * y_grid + a2, image.shape[2], "normalized_minus_one_to_one", True)
        rows = _unnormalised(b0 * x_grid + b1 * y_grid + b2, image.shape[1], "normalized_minus_one_to_one", True)
        results.append(_sampled(image, rows, columns, "constant", call.scalar("padding_value", 0.0)))
    return np.stack(results)


def _corners(box: Floats, mode: str) -> tuple[float, float, float, float]:
    """Top, left, bottom, right of a box in one of Core ML's four notations."""
    first, second, third, fourth = (float(value) for value in box)
    if mode.endswith("WIDTH_FIRST"):
        first, second, third, fourth = second, first, fourth, third
    if mode.startswith("CENTER_SIZE"):
        return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
    return first, second, third, fourth


def _spread(mode: str, length: float, count: int) -> Floats:
    """Where samples lie from the start of a box; a box whose end lies before its start is walked backwards."""
    return np.copysign(grid_points(mode, abs(length) + 1, count), length)


@operation("crop_resize")
def crop_resize(call: MilCall) -> Floats:
    """Patches of the images, each resized. Before iOS 17 a box may name its image, or is cut out of all of them."""
    x = call.real("x")
    sizes = call.scalar("target_height", 1), call.scalar("target_width", 1)
    mode, notation = call.scalar("sampling_mode", "DEFAULT"), call.scalar("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")
    scale = np.float64(call.scalar("spatial_scale", 1.0))
    extents = (x.shape[2] - 1, x.shape[3] - 1) if call.scalar("normalized_coordinates", False) else (1, 1)

    def patch(image: Floats, box: Floats) -> Floats:
        top, left, bottom, right = _corners(box, notation)
        rows, columns = (
            start * scale * extent + _spread(mode, (end - start) * scale * extent, count)
            for start, end, extent, count in zip((top, left), (bottom, right), extents, sizes, strict=True)
        )
        y, x_ = np.meshgrid(rows, columns, indexing="ij")
        outside = (y < 0) | (y > image.shape[1] - 1) | (x_ < 0) | (x_ > image.shape[2] - 1)
        return np.where(outside, np.float32(call.scalar("pad_value", 0.0)), _sampled(image, y, x_, "border", 0.0))

    if call.get("boxes") is not None:
        boxes = call.real("boxes").astype(np.float64)
        images = call.integers("box_indices", range(len(boxes)))
        return np.stack([patch(x[index], box) for index, box in zip(images, boxes, strict=True)])
    rois = call.real("roi").astype(np.float64).reshape(len(call["roi"]), -1)
    if rois.shape[1] == 5:
        return np.stack([patch(x[int(roi[0])], roi[1:])[None] for roi in rois])
    return np.stack([np.stack([patch(image, roi) for image in x]) for roi in rois])
