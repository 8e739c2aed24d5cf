"""Augmented views as explicit parameters: drawn once, stored, and replayed to the bit.

A view is what a teacher and a student both see (FunMatch, Beyer et al. 2022, https://arxiv.org/abs/2106.05237: the *same*
view for both is what makes distillation work). A seed would replay differently after a library's update, so the
parameters themselves are the record. They are relative to the image, and so mean the same at any resolution.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill.data.augment import AUGMENTATION_VERSION, NEUTRAL, TWO_SIDED, ImageOperation, apply
from edgedistill.data.preprocessing import kept_region, resample
from edgedistill.data.sources import ImageSource, Indices, Pixels
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.specs import Contract

FULL: Final = 65535
"""Where a crop box ends that keeps all: fractions are stored in 65535ths."""

UNMIXED: Final = 255
"""Weight of the image itself in a view without a partner: weights are stored in 255ths."""

VIEW_DTYPE: Final = np.dtype(
    [
        ("box", "<u2", (4,)),
        ("flip", "u1"),
        ("operation", "u1", (2,)),
        ("magnitude", "u1", (2,)),
        ("mix_weight", "u1"),
        ("mix_partner", "<u4"),
        ("cut", "u1", (4,)),
    ]
)
"""One view, 22 bytes. `box`: left, top, right, bottom in 65535ths of the region that the contract keeps. `flip`: 1 is
mirrored left to right. `operation`, `magnitude`: codes of `augment.Operation`, applied in order. `mix_weight`: share of the
image itself in 255ths; `mix_partner`: position in the split of the image that has the rest (its own position if unmixed).
`cut`: left, top, right, bottom in 255ths of the view, where the partner's view stands in place of the image's; empty where
the two are blended all over."""

Views = NDArray[np.void]


def identity_views(count: int) -> Views:
    """Views that change nothing, [count]."""
    views = np.zeros(count, VIEW_DTYPE)
    views["box"] = (0, 0, FULL, FULL)
    views["mix_weight"] = UNMIXED
    views["mix_partner"] = np.arange(count)
    return views


def draw_views(count: int, augmentation: AugmentationConfig, view_index: int, groups: Indices | None = None) -> Views:
    """One view of each of `count` images, [count] of VIEW_DTYPE, by the seed in `augmentation` and `view_index`. With
    `groups`, int [count], an image is mixed with one of its own group alone.

    A crop keeps a share of the area within `scale`; where its aspect would leave the image, the aspect gives way, not
    the area.
    """
    views = identity_views(count)
    if not count:
        return views
    rng = np.random.default_rng([augmentation.seed, view_index, AUGMENTATION_VERSION])
    area = rng.uniform(min(augmentation.scale), max(augmentation.scale), count)
    aspect = np.exp(rng.uniform(math.log(min(augmentation.ratio)), math.log(max(augmentation.ratio)), count))
    width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
    width, height = (
        np.where(height > 1, area, np.minimum(width, 1)),
        np.where(width > 1, area, np.minimum(height, 1)),
    )
    for start, end, size in ((0, 2, width), (1, 3, height)):
        kept = np.clip(np.rint(size * FULL), 1, FULL).astype(np.int64)
        first = np.floor(rng.random(count) * (FULL - kept + 1)).astype(np.int64)
        views["box"][:, start] = first
        views["box"][:, end] = first + kept
    views["flip"] = (rng.random(count) < 0.5) & augmentation.flip
    codes = rng.integers(0, len(ImageOperation), (count, 2))
    strength = rng.uniform(-augmentation.magnitude, augmentation.magnitude, (count, 2))
    two_sided = np.isin(codes, list(TWO_SIDED))
    magnitudes = np.where(two_sided, NEUTRAL + np.rint(127 * strength), np.rint(255 * np.abs(strength)))
    used = np.arange(2) < augmentation.operations
    views["operation"] = np.where(used, codes, ImageOperation.IDENTITY)
    views["magnitude"] = np.where(used & (codes != ImageOperation.IDENTITY), magnitudes, 0)
    mixed = rng.random(count) < (augmentation.mix or 0)
    weight = rng.beta(augmentation.mix_alpha, augmentation.mix_alpha, count)
    partner = rng.integers(0, count, count)
    if groups is not None:
        partner = _within(groups, partner)
    views["mix_weight"] = np.where(mixed, np.rint(UNMIXED * weight), UNMIXED)
    views["mix_partner"] = np.where(mixed, partner, np.arange(count))
    _cut(views, np.flatnonzero(~mixed & (rng.random(count) < augmentation.cutmix)), partner, rng)
    return views


def _within(groups: Indices, drawn: Indices) -> Indices:
    """For each image one of its group, by a number that was drawn evenly from 0..n - 1."""
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    first = np.cumsum(sizes) - sizes
    chosen: Indices = np.argsort(groups, kind="stable")[first[inverse] + drawn * sizes[inverse] // len(groups)]
    return chosen


def _cut(views: Views, chosen: Indices, partner: Indices, rng: np.random.Generator) -> None:
    """Give `chosen` views a box of their partner's: its share of the area is drawn evenly, its middle too, and what lies
    outside is cut off (CutMix, Yun et al. 2019, https://arxiv.org/abs/1905.04899, equation 2)."""
    side = UNMIXED * np.sqrt(rng.random(len(chosen)))
    middle = UNMIXED * rng.random((2, len(chosen)))
    low, high = (np.rint(np.clip(middle + sign * side / 2, 0, UNMIXED)).astype(np.int64) for sign in (-1, 1))
    area = np.prod(high - low, axis=0)
    views["cut"][chosen] = np.concatenate([low, high]).T
    views["mix_weight"][chosen] = np.rint(UNMIXED - area / UNMIXED)
    views["mix_partner"][chosen] = partner[chosen]


def render_batch(images: ImageSource, indices: Indices, views: Views, positions: Indices, contract: Contract) -> Pixels:
    """Views of the split's images at `positions`, mixed with their partners: uint8 [B, 3, R, R].

    `indices` [n] are the split's images in the data set, `views` [n] their views under one view index: a partner is shown
    by its own view there, unmixed.
    """
    chosen = views[positions]
    result = render(images, indices[positions], chosen, contract)
    mixed = np.flatnonzero(chosen["mix_weight"] != UNMIXED)
    if len(mixed):
        partners = chosen["mix_partner"][mixed].astype(np.int64)
        others = render(images, indices[partners], views[partners], contract)
        boxes = np.rint(chosen["cut"][mixed].astype(np.float64) * contract.resolution / UNMIXED).astype(np.int64)
        cut = chosen["cut"][mixed].any(axis=1)
        for position, other, (left, top, right, bottom) in zip(mixed[cut], others[cut], boxes[cut].tolist()):
            result[position, :, top:bottom, left:right] = other[:, top:bottom, left:right]
        blended = mixed[~cut]
        weight = chosen["mix_weight"][blended].astype(np.uint16)[:, None, None, None]
        # 255 * 255 + 127 still fits in 16 bits.
        result[blended] = (result[blended] * weight + others[~cut] * (UNMIXED - weight) + 127) // 255
    return result


def mixed_labels(labels: Indices, classes: int, views: Views, positions: Indices) -> NDArray[np.float32]:
    """For a batch of `render_batch`: the shares of the classes in each image, float32 [B, classes]. `labels` [n] are those
    of the split, in its order; one of -1 is not known, and adds to no class."""
    chosen = views[positions]
    share = chosen["mix_weight"] / np.float32(UNMIXED)
    rows = np.arange(len(positions))
    result: NDArray[np.float32] = np.zeros((len(positions), classes), np.float32)
    for found, weight in ((labels[positions], share), (labels[chosen["mix_partner"].astype(np.int64)], 1 - share)):
        known = found >= 0
        result[rows[known], found[known]] += weight[known]
    return result


def render(images: ImageSource, indices: Indices, views: Views, contract: Contract) -> Pixels:
    """What views [n] show of the images at `indices` [n], before mixing: uint8 [n, 3, R, R].

    One resize does crop and antialiasing; then the flip, then the operations.
    """
    side = contract.resolution
    result = np.empty((len(indices), 3, side, side), np.uint8)
    # Plain lists first: reading fields of a structured record one by one costs more than the resize.
    columns = [views[name].tolist() for name in ("box", "flip", "operation", "magnitude")]
    for position, (index, box, flip, operations, magnitudes) in enumerate(zip(indices.tolist(), *columns)):
        rendered = _render(images[index], box, flip, operations, magnitudes, contract)
        result[position] = rendered.transpose(2, 0, 1)
    return result


def _render(
    pixels: Pixels, box: list[int], flip: int, operations: list[int], magnitudes: list[int], contract: Contract
) -> Pixels:
    """uint8 [R, R, 3]."""
    image = kept_region(pixels, contract)
    width, height = image.size
    part = (box[0] * width / FULL, box[1] * height / FULL, box[2] * width / FULL, box[3] * height / FULL)
    image = resample(image, part, contract)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for operation, magnitude in zip(operations, magnitudes):
        image = apply(image, operation, magnitude)
    return np.asarray(image)
