"""The one way from an image to what a model is given: the contract's crop and antialiased resize, in Pillow.

A view (`views.py`) crops within the region that the contract keeps and resizes in the same single step, so that the view
that changes nothing equals `resize` to the bit.
"""

from __future__ import annotations

import math
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.progress import Listener, silent
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import ImageSource, Indices, Pixels
from edgedistill.data.threads import in_threads, told_if_slow
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract, VectorContract

Statistics = tuple[float, float, float]

_STATISTICS_IMAGES: Final = 2000
_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def make_contract(
    config: DataConfig,
    classes: tuple[str, ...],
    resolution: int,
    mean: Statistics,
    std: Statistics,
    vector: VectorContract | None = None,
) -> Contract:
    """The contract at a resolution: background, crop and filter as the build file says, `mean` and `std` in 0..255; that of
    an embedding where there is a `vector`, without classes unless it has vectors for them."""
    return Contract(
        task="classification" if vector is None else "embedding",
        output_name="logits" if vector is None else "embedding",
        background=config.background,
        resolution=resolution,
        resize_filter=config.resize_filter,
        crop=config.crop,
        mean=mean,
        std=std,
        labels=classes if vector is None or vector.class_vectors else (),
        vector=vector,
    )


def scaled(levels: tuple[float, ...]) -> Statistics:
    """Levels of red, green and blue in 0..1 on the scale 0..255."""
    red, green, blue = (255 * float(level) for level in levels)
    return red, green, blue


def kept_region(image: Pixels, contract: Contract) -> Image.Image:
    """What the contract keeps of uint8 [H, W, 3]: all, or the largest square in the middle (an odd pixel is lost at the
    right or bottom). Really cut out, because a resize of a box inside a larger image also blends in what lies around it,
    which an app that crops first does not see."""
    if contract.crop == "center":
        height, width, _ = image.shape
        side = min(width, height)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    return Image.fromarray(image)


def resample(image: Image.Image, box: tuple[float, float, float, float], contract: Contract) -> Image.Image:
    """The part `box` of an RGB image at the contract's resolution: first its rows, then its columns, each rounded to bytes.
    Pillow's resize is antialiased when it shrinks. Raises UnsupportedError for a contract without antialiasing, which
    Pillow cannot do."""
    if not contract.antialias:
        raise UnsupportedError("a contract without antialiasing", fix="set antialias to true")
    side, resize_filter, (left, top, right, bottom) = contract.resolution, _FILTERS[contract.resize_filter], box
    # At once Pillow 13 takes the columns of a tall image first, and earlier ones do not (python-pillow/Pillow#9549).
    rows = image.resize((side, image.height), resize_filter, (left, 0, right, image.height))
    return rows.resize((side, side), resize_filter, (0, top, side, bottom))


def resize(image: Pixels, contract: Contract) -> Pixels:
    """uint8 [H, W, 3] to uint8 [3, R, R] as the contract says."""
    kept = kept_region(image, contract)
    resized = resample(kept, (0, 0, kept.width, kept.height), contract)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def prepare(images: ImageSource, indices: Indices, contract: Contract) -> Pixels:
    """The images at `indices`, resized: uint8 [n, 3, R, R]."""
    side = contract.resolution
    result = np.empty((len(indices), 3, side, side), np.uint8)
    for position, index in enumerate(indices.tolist()):
        result[position] = resize(images[index], contract)
    return result


def channel_statistics(dataset: Dataset, listener: Listener = silent) -> tuple[Statistics, Statistics]:
    """Mean and standard deviation of each channel in 0..255, over at most 2,000 training images spread evenly through
    the split, each image weighing the same. The deviation is at least 1, one grey level: a constant channel divides
    by it. `listener` hears how far reading the images is, if it takes long; a second time they are not read."""
    if dataset not in _known:
        _known[dataset] = _statistics(dataset, listener)
    return _known[dataset]


def remember_statistics(dataset: Dataset, found: tuple[Statistics, Statistics]) -> None:
    """Have `channel_statistics` give what another process found, instead of reading images."""
    _known[dataset] = found


_known: WeakKeyDictionary[Dataset, tuple[Statistics, Statistics]] = WeakKeyDictionary()
_LEVELS: Final = np.arange(256, dtype=np.float64)


def _statistics(dataset: Dataset, listener: Listener) -> tuple[Statistics, Statistics]:
    train = dataset.splits.train
    chosen = train[np.unique(np.linspace(0, len(train) - 1, min(len(train), _STATISTICS_IMAGES)).astype(np.int64))]
    moments: NDArray[np.float64] = np.zeros((2, 3))
    with told_if_slow(listener, "statistics", dataset.name, len(chosen)) as advance:
        for found in in_threads(lambda index: _moments(dataset.images[index]), chosen.tolist(), advance):
            moments += found
    mean, squares = moments / len(chosen)
    variance = squares - np.square(mean)
    red, green, blue = mean.tolist()
    deviations = [max(1.0, math.sqrt(max(0.0, value))) for value in variance.tolist()]
    return (red, green, blue), (deviations[0], deviations[1], deviations[2])


def _moments(pixels: Pixels) -> NDArray[np.float64]:
    """Mean and mean square of each channel, [2, 3]. Counted by level: a copy of a large photograph in float64 has
    gigabytes. Sums of whole numbers are exact, so that no order of summing shows in the contract."""
    height, width, _ = pixels.shape
    counts: NDArray[np.float64] = np.reshape(Image.fromarray(pixels).histogram(), (3, 256)).astype(np.float64)
    moments: NDArray[np.float64] = np.stack([counts @ _LEVELS, counts @ np.square(_LEVELS)]) / (height * width)
    return moments
