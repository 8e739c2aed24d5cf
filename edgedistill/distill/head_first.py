"""A new classifier on features that were trained before: fitted alone, before the network is.

A random classifier sends random gradients into the network and spoils its features (Kumar et al. 2022,
https://arxiv.org/abs/2202.10054). So it is first fitted by a regression on what the network gives as it is.
"""

from __future__ import annotations

import copy
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgedistill.base.errors import InputError
from edgedistill.base.quiet import quiet
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.data.sources import Indices
from edgedistill.data.splits import limited
from edgedistill.distill.evaluate import BATCH, split_quality
from edgedistill.distill.recipes.taps import as_rows, classifier_of, tapped
from edgedistill.documents.recipes import FEATURES
from edgedistill.documents.specs import Contract

IMAGES: Final = 20_000
WORK: Final = 4e8
"""Images times features times classes of a regression, at most: more than that takes minutes."""
STRENGTHS: Final = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverses of the ridge penalty on standardised features, of which the validation split chooses."""
LEAST_OF_A_CLASS: Final = 2
Array = NDArray[np.floating]


def with_fitted_head(
    module: nn.Module, dataset: Dataset, contract: Contract, seed: int
) -> tuple[nn.Module, float] | None:
    """A copy of `module` with a classifier that was fitted to its features of the training images, and its quality on the
    validation split. None where its own is as good, where it has none, or where there are too many classes for their
    images, or one has none."""
    classes = len(dataset.classes)
    try:
        found = copy.deepcopy(module)
        head = classifier_of(found, classes)
    except InputError:
        return None
    width = head.weight[0].numel()
    count = int(min(IMAGES, len(dataset.splits.train), WORK / (width * classes)))
    if count < LEAST_OF_A_CLASS * classes:
        return None
    chosen = limited(dataset.splits.train, dataset.labels, count, seed)
    if len(np.unique(dataset.labels[chosen])) < classes:
        return None
    features = _features(found, dataset, chosen, contract)
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    best, quality = None, split_quality(module, dataset, dataset.splits.validation, contract)
    for strength in STRENGTHS:
        rows, biases = _regression((features - mean) / scale, dataset.labels[chosen], strength)
        # Of standardised features; the classifier takes them as they are.
        weight = rows / scale
        fitted = weight, biases - weight @ mean
        _set(head, *fitted)
        reached = split_quality(found, dataset, dataset.splits.validation, contract)
        if reached > quality:
            best, quality = fitted, reached
    if best is None:
        return None
    _set(head, *best)
    return found, quality


def _regression(features: Array, labels: Indices, strength: float) -> tuple[Array, Array]:
    """The weights [classes, width] and biases [classes] of a logistic regression."""
    # Late: with it come scipy and pandas, which no process that trains a student needs.
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    with quiet():  # of steps: a classifier that is almost fitted is a start as good
        fitted = LogisticRegression(C=strength, max_iter=200).fit(features, labels)
    rows, biases = fitted.coef_, fitted.intercept_
    if len(rows) == 1:  # of two classes it has the second's alone
        rows, biases = np.concatenate([-rows, rows]) / 2, np.concatenate([-biases, biases]) / 2
    return rows, biases


@torch.no_grad()
def _set(head: nn.Linear | nn.Conv2d, weight: Array, bias: Array) -> None:
    head.weight.copy_(torch.from_numpy(weight).view_as(head.weight))
    if head.bias is not None:
        head.bias.copy_(torch.from_numpy(bias))


@torch.inference_mode()
def _features(module: nn.Module, dataset: Dataset, indices: np.ndarray, contract: Contract) -> np.ndarray:
    """float32 [n, width] of what goes into the classifier, for images as they are."""
    rows = []
    with tapped(module, FEATURES, len(dataset.classes)) as kept:
        for start in range(0, len(indices), BATCH):
            images = prepare(dataset.images, indices[start : start + BATCH], contract)
            module(torch.from_numpy(images).float())
            rows.append(as_rows(kept[0]).float().numpy())
    return np.concatenate(rows)
