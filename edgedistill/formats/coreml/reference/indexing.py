"""Gathering, scattering, one-hot vectors and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.reference.registry import MilCall, along, operation

_UPDATES: dict[str, Callable[..., None]] = {
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _write(data: NDArray[Any], where: Any, updates: NDArray[Any], mode: str) -> NDArray[Any]:
    """`data` with the updates at `where`; an index that occurs twice counts twice."""
    result = data.astype(np.float32) if data.dtype == np.float16 else data.copy()
    if mode == "update":
        result[where] = updates
    elif mode == "div" and np.issubdtype(result.dtype, np.integer):
        np.floor_divide.at(result, where, updates)
    else:
        _UPDATES[mode](result, where, updates)
    return result


def _indices(call: MilCall, sizes: int | Sequence[int]) -> NDArray[Any]:
    """The indices into dimensions of `sizes`; raises IndexError for one outside where the program asks for that."""
    indices = np.asarray(call["indices"]).astype(np.int64)
    if call.scalar("validate_indices", False) and ((indices < 0) | (indices >= np.asarray(sizes))).any():
        raise IndexError(f"indices outside 0..{np.asarray(sizes) - 1}")
    return indices


def _by_row(
    take: Callable[[NDArray[Any], NDArray[Any]], Any], x: NDArray[Any], indices: NDArray[Any], batch: int
) -> NDArray[Any]:
    """What `take` takes out of `x`; the first `batch` dimensions of `x` and the indices are walked together."""
    if batch == 0:
        return np.asarray(take(x, indices))
    flat, rows = x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:])
    taken = [take(part, row) for part, row in zip(flat, rows, strict=True)]
    return np.stack(taken).reshape(*x.shape[:batch], *np.shape(taken[0]))


@operation("gather")
def gather(call: MilCall) -> NDArray[Any]:
    """Along an axis; the first `batch_dims` dimensions of both are walked together."""
    x = np.asarray(call["x"])
    axis, batch = call.scalar("axis", 0) % x.ndim, call.scalar("batch_dims", 0)
    indices = _indices(call, x.shape[axis])
    return _by_row(lambda part, row: np.take(part, row, axis=axis - batch, mode="wrap"), x, indices, batch)


@operation("gather_along_axis")
def gather_along_axis(call: MilCall) -> NDArray[Any]:
    x, axis = np.asarray(call["x"]), call.scalar("axis", 0)
    indices = _indices(call, x.shape[axis]) % x.shape[axis]
    return np.take_along_axis(x, indices, axis)


@operation("gather_nd")
def gather_nd(call: MilCall) -> NDArray[Any]:
    x, batch = np.asarray(call["x"]), call.scalar("batch_dims", 0)
    indices = _indices(call, x.shape[batch : batch + np.shape(call["indices"])[-1]])
    return _by_row(lambda part, row: part[tuple(np.moveaxis(row, -1, 0))], x, indices, batch)


@operation("scatter")
def scatter(call: MilCall) -> NDArray[Any]:
    data = np.asarray(call["data"])
    axis = call.scalar("axis", 0) % data.ndim
    indices = _indices(call, data.shape[axis])
    moved = np.moveaxis(data, axis, 0)
    rank = np.ndim(call["updates"])
    own = list(range(axis, axis + indices.ndim))
    updates = np.transpose(call["updates"], own + [d for d in range(rank) if d not in own])
    return np.moveaxis(_write(moved, indices % data.shape[axis], updates, call.scalar("mode", "add")), 0, axis)


@operation("scatter_along_axis")
def scatter_along_axis(call: MilCall) -> NDArray[Any]:
    data = np.asarray(call["data"])
    axis = call.scalar("axis", 0) % data.ndim
    indices = _indices(call, data.shape[axis])
    where = list(np.indices(indices.shape))
    where[axis] = indices % data.shape[axis]
    return _write(data, tuple(where), np.asarray(call["updates"]), call.scalar("mode", "add"))


@operation("scatter_nd")
def scatter_nd(call: MilCall) -> NDArray[Any]:
    data = np.asarray(call["data"])
    indices = _indices(call, data.shape[: np.shape(call["indices"])[-1]])
    where = tuple(np.moveaxis(indices, -1, 0))
    return _write(data, where, np.asarray(call["updates"]), call.scalar("mode", "add"))


@operation("one_hot")
def one_hot(call: MilCall) -> NDArray[Any]:
    """An index outside the vector gives a vector of `off_value`."""
    indices, size = np.asarray(call["indices"]), call.scalar("one_hot_vector_size")
    axis = call.scalar("axis", -1) % (indices.ndim + 1)
    hot = np.expand_dims(indices, axis) == along(np.arange(size), indices.ndim + 1, axis)
    return np.asarray(np.where(hot, call.get("on_value", 1), call.get("off_value", 0)))


def _overlap(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Intersection over union of a box [4] with others [n, 4], all as centre x, centre y, width, height."""
    low, high = (
        np.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2),
        np.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2),
    )
    inside = np.clip(high - low, 0, None).prod(axis=1)
    return np.asarray(inside / (box[2:].prod() + others[:, 2:].prod(axis=1) - inside))


def _survivors(boxes: NDArray[Any], scores: NDArray[Any], limit: float, least: float, per_class: bool) -> list[int]:
    """Indices of the boxes [B, 4] that are kept, best score [B, K] first."""
    best, kinds = scores.max(axis=1), scores.argmax(axis=1)
    kept: list[int] = []
    for index in np.argsort(-best, kind="stable"):
        if best[index] < least:
            break
        rivals = [k for k in kept if not per_class or kinds[k] == kinds[index]]
        if not rivals or (_overlap(boxes[index], boxes[rivals]) <= limit).all():
            kept.append(int(index))
    return kept


@operation("non_maximum_suppression")
def non_maximum_suppression(call: MilCall) -> tuple[NDArray[Any], ...]:
    """Boxes last from iOS 17 on, without a score threshold and without the count of boxes; padded with zeros, indices -1."""
    boxes, scores = call.real("boxes"), call.real("scores")
    counted = len(call.operation.outputs) == 4
    if not counted:
        boxes, scores = boxes.swapaxes(1, 2), scores.swapaxes(1, 2)
    most, least = call.scalar("max_boxes"), call.scalar("score_threshold", -np.inf)
    n, _, k = scores.shape
    coordinates, chosen = np.zeros((n, most, 4), np.float32), np.zeros((n, most, k), np.float32)
    indices, counts = np.full((n, most), -1), np.zeros(n, np.int32)
    for batch in range(n):
        kept = _survivors(
            boxes[batch],
            scores[batch],
            call.scalar("iou_threshold"),
            least,
            call.scalar("per_class_suppression", False),
        )[:most]
        counts[batch] = len(kept)
        coordinates[batch, : len(kept)], chosen[batch, : len(kept)] = boxes[batch, kept], scores[batch, kept]
        indices[batch, : len(kept)] = kept
    if counted:
        return coordinates, chosen, indices, counts
    return coordinates.swapaxes(1, 2), chosen.swapaxes(1, 2), indices
