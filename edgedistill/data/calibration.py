"""The images that ranges are read off: chosen once, as many of each class as of any other, and kept by their indices."""

from __future__ import annotations

import numpy as np

from edgedistill.data.datasets import Dataset
from edgedistill.data.prepared import prepared
from edgedistill.data.sources import Indices, Pixels
from edgedistill.documents.artifacts import CalibrationSet
from edgedistill.documents.specs import Contract

FILE = "calibration.json"


def calibration_pixels(chosen: CalibrationSet, dataset: Dataset, contract: Contract) -> Pixels:
    """The chosen images through the contract, uint8 [n, 3, R, R]."""
    return prepared(dataset, np.asarray(chosen.indices, np.int64), contract)[:]


def choose_calibration(dataset: Dataset, count: int, seed: int = 0) -> CalibrationSet:
    """`count` images of the training split, or all if it has fewer: the classes in turn, each in an order of its own drawn
    from `seed`, so that every prefix is balanced too."""
    train = dataset.splits.train
    generator = np.random.default_rng(seed)
    shuffled = train[generator.permutation(len(train))]
    labels = dataset.labels[shuffled]
    turn = np.empty(len(train), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        turn[own] = np.arange(len(own))
    order: Indices = shuffled[np.lexsort((labels, turn))][:count]
    return CalibrationSet(fingerprint=dataset.fingerprint, seed=seed, indices=tuple(order.tolist()))
