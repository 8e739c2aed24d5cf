from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgedistill.data.datasets import load_dataset
from edgedistill.documents.build_file import DataConfig, SplitConfig

FASHION_MNIST = Path(os.environ.get("EDGEDISTILL_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


def test_digits_come_whole_with_explicit_splits() -> None:
    dataset = load_dataset(DataConfig())
    assert dataset.name == "digits"
    assert dataset.classes == tuple("0123456789")
    assert len(dataset.labels) == len(dataset.images) == 1797
    everything = np.concatenate([dataset.splits.train, dataset.splits.validation, dataset.splits.test])
    np.testing.assert_array_equal(np.sort(everything), np.arange(1797))
    assert len(dataset.splits.validation) == len(dataset.splits.test) == 270
    assert dataset.splits.seed == 0
    first = dataset.images[0]
    assert first.shape == (8, 8, 3)
    assert first.dtype == np.uint8
    assert first.max() <= 255
    assert max(int(dataset.images[i].max()) for i in range(50)) == 255  # level 16 of 16


def test_a_limit_is_on_training_images_only() -> None:
    whole, few = load_dataset(DataConfig()), load_dataset(DataConfig(limit=100))
    assert len(few.splits.train) == 100
    assert set(few.splits.train.tolist()) <= set(whole.splits.train.tolist())
    np.testing.assert_array_equal(few.splits.validation, whole.splits.validation)
    np.testing.assert_array_equal(few.splits.test, whole.splits.test)
    assert few.fingerprint == whole.fingerprint


def test_the_split_seed_draws_another_split_of_the_same_data() -> None:
    one, other = load_dataset(DataConfig()), load_dataset(DataConfig(split=SplitConfig(seed=1)))
    assert one.splits.test.tolist() != other.splits.test.tolist()
    assert one.fingerprint == other.fingerprint


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(),
    reason=f"Fashion-MNIST is not in {FASHION_MNIST}: install the Debian package dataset-fashion-mnist, "
    "or set EDGEDISTILL_FASHION_MNIST",
)
def test_fashion_mnist_as_debian_packs_it() -> None:
    dataset = load_dataset(DataConfig(source="idx", path=FASHION_MNIST, limit=1000))
    assert dataset.classes == tuple("0123456789")
    assert len(dataset.images) == 70_000
    np.testing.assert_array_equal(dataset.splits.test, np.arange(60_000, 70_000))
    assert len(dataset.splits.validation) == 9000
    assert dataset.images[69_999].shape == (28, 28, 3)
    counts = np.bincount(dataset.labels[dataset.splits.train])
    assert counts.tolist() == [100] * 10
