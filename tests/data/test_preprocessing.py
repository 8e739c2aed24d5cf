from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.progress import Event, StageFinished, StageStarted
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.preprocessing import (
    channel_statistics,
    kept_region,
    make_contract,
    prepare,
    remember_statistics,
    resize,
)
from edgedistill.data.sources import GreyImages
from edgedistill.data.splits import Splits
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)


def contract(resolution: int = 16, **changes: str) -> Contract:
    return make_contract(DataConfig(**changes), ("a", "b"), resolution, ZERO, ONE)


def test_the_contract_says_what_the_build_file_says() -> None:
    made = make_contract(DataConfig(crop="center", resize_filter="bicubic"), ("a", "b"), 24, (1, 2, 3), (4, 5, 6))
    assert (made.resolution, made.crop, made.resize_filter, made.antialias) == (24, "center", "bicubic", True)
    assert (made.mean, made.std, made.labels) == ((1, 2, 3), (4, 5, 6), ("a", "b"))


def test_stretch_is_pillows_own_resize() -> None:
    expected = np.asarray(Image.fromarray(PIXELS).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(PIXELS, contract()), expected.transpose(2, 0, 1))


def test_centre_crop_keeps_the_largest_square() -> None:
    assert kept_region(PIXELS, contract(crop="center")).size == (30, 30)
    square = Image.fromarray(PIXELS[:, 5:35])
    expected = np.asarray(square.resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(resize(PIXELS, contract(crop="center", resize_filter="bicubic")), expected)


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = resize(stripes, contract(8))
    assert shrunk.min() > 100
    assert shrunk.max() < 155


def test_the_right_size_passes_untouched() -> None:
    np.testing.assert_array_equal(resize(PIXELS[:16, :16], contract()), PIXELS[:16, :16].transpose(2, 0, 1))


def test_a_contract_without_antialiasing_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="antialias"):
        resize(PIXELS, contract().model_copy(update={"antialias": False}))


def test_prepare_is_resize_by_index() -> None:
    dataset = load_dataset(DataConfig())
    batch = prepare(dataset.images, np.array([5, 3]), contract())
    assert batch.shape == (2, 3, 16, 16)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[1], resize(dataset.images[3], contract()))


def test_statistics_are_told_where_they_take_long_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.data.threads.SECONDS_UNTOLD", 0.0)
    read: list[int] = []

    class Images(list[NDArray[np.uint8]]):
        def __getitem__(self, index: Any) -> Any:
            read.append(index)
            return super().__getitem__(index)

    images = Images([np.full((3, 2, 3), 10 * n, np.uint8) for n in range(4)])
    splits = Splits(np.arange(4), np.arange(0), np.arange(0), seed=None)
    dataset = Dataset("flowers", ("a", "b"), np.arange(4) % 2, images, splits, "f")
    heard: list[Event] = []
    found = channel_statistics(dataset, heard.append)
    assert found == channel_statistics(dataset) and sorted(read) == [0, 1, 2, 3]
    elsewhere = replace(dataset)
    remember_statistics(elsewhere, found)
    assert channel_statistics(elsewhere) == found and len(read) == 4, "what another process found reads nothing"
    assert found[0] == (15.0, 15.0, 15.0)
    assert [(type(e).__name__, e.stage) for e in heard if isinstance(e, StageStarted | StageFinished)] == [
        ("StageStarted", "statistics"),
        ("StageFinished", "statistics"),
    ]


def test_statistics_equal_those_of_all_pixels_and_read_train_only() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (50, 4, 4), dtype=np.uint8)
    pixels[40:] = 255
    splits = Splits(np.arange(40), np.arange(40, 45), np.arange(45, 50), 0)
    dataset = Dataset("x", ("a", "b"), np.arange(50) % 2, GreyImages(pixels), splits, "f")
    mean, std = channel_statistics(dataset)
    assert mean == pytest.approx((pixels[:40].mean(),) * 3)
    assert std == pytest.approx((pixels[:40].std(),) * 3)


def test_statistics_are_the_exact_moments_so_that_a_contract_does_not_depend_on_how_they_are_summed() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (7, 13, 11), dtype=np.uint8)
    splits = Splits(np.arange(5), np.arange(5, 6), np.arange(6, 7), 0)
    mean, std = channel_statistics(Dataset("x", ("a", "b"), np.arange(7) % 2, GreyImages(pixels), splits, "f"))
    means, squares = (
        sum(int((p.astype(np.int64) ** power).sum()) / p.size for p in pixels[:5]) / 5 for power in (1, 2)
    )
    assert mean == (means,) * 3
    assert std == (math.sqrt(squares - means**2),) * 3


def test_a_constant_channel_has_a_deviation_of_one() -> None:
    splits = Splits(np.arange(4), np.arange(4, 5), np.arange(5, 6), 0)
    images = GreyImages(np.full((6, 3, 3), 7, np.uint8))
    mean, std = channel_statistics(Dataset("x", ("a", "b"), np.arange(6) % 2, images, splits, "f"))
    assert mean == (7, 7, 7)
    assert std == (1, 1, 1)
