"""Images that show nothing: the same every time, and of every value."""

from __future__ import annotations

import numpy as np

from edgedistill.data.preprocessing import channel_statistics, make_contract, prepare
from edgedistill.data.synthetic import SyntheticImages, synthetic_dataset
from edgedistill.documents.build_file import DataConfig


def test_an_image_depends_on_index_and_seed_alone() -> None:
    images = SyntheticImages(4, 32)
    assert images[1].shape == (32, 32, 3) and images[1].dtype == np.uint8
    assert np.array_equal(images[1], SyntheticImages(9, 32)[1])
    assert not np.array_equal(images[1], images[2])
    assert not np.array_equal(images[1], SyntheticImages(4, 32, seed=1)[1])


def test_values_spread_and_neighbours_are_alike() -> None:
    pixels = SyntheticImages(1, 64)[0].astype(int)
    assert pixels.min() < 20 and pixels.max() > 235
    assert np.abs(np.diff(pixels, axis=0)).mean() < 0.25 * pixels.std()


def test_the_data_set_goes_through_a_contract() -> None:
    dataset = synthetic_dataset(10, train=16, validation=4, side=48)
    assert set(dataset.labels[dataset.splits.train].tolist()) == set(range(10))
    assert len(dataset.splits.validation) == 4 and len(dataset.splits.test) == 0
    mean, std = channel_statistics(dataset)
    assert all(100 < value < 155 for value in mean) and all(30 < value < 90 for value in std)
    contract = make_contract(DataConfig(), dataset.classes, 24, mean, std)
    assert prepare(dataset.images, dataset.splits.validation, contract).shape == (4, 3, 24, 24)
    assert dataset.fingerprint != synthetic_dataset(10, train=16, validation=4, side=24).fingerprint
