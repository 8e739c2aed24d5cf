"""The calibration set: balanced, fixed, stored."""

from __future__ import annotations

import numpy as np
from quantize_networks import CONTRACT

from edgedistill.data.calibration import calibration_pixels, choose_calibration
from edgedistill.data.datasets import load_dataset
from edgedistill.documents.artifacts import CalibrationSet
from edgedistill.documents.build_file import DataConfig


def test_balanced_from_the_training_split_and_the_same_every_time():
    dataset = load_dataset(DataConfig(source="digits"))
    chosen = choose_calibration(dataset, 100)
    assert chosen == choose_calibration(dataset, 100)
    assert chosen != choose_calibration(dataset, 100, seed=1)
    assert len(set(chosen.indices)) == 100 and set(chosen.indices) <= set(dataset.splits.train.tolist())
    assert np.bincount(dataset.labels[list(chosen.indices)]).tolist() == [10] * 10
    assert choose_calibration(dataset, 30).indices == chosen.indices[:30], "a smaller set is a prefix"
    assert CalibrationSet.model_validate_json(chosen.model_dump_json()) == chosen
    assert calibration_pixels(chosen, dataset, CONTRACT).shape == (100, 3, 16, 16)


def test_a_small_split_is_taken_whole():
    dataset = load_dataset(DataConfig(source="digits", limit=40))
    assert sorted(choose_calibration(dataset, 256).indices) == sorted(dataset.splits.train.tolist())
