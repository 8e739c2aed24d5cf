"""Which images without a label are learnt from: those of which the teacher is sure, told by its own outputs alone.

A student that follows a teacher where it guesses learns its guesses. How sure a teacher is shows in its probabilities, and
in whether it names the same class for all views of an image (uDistil, https://arxiv.org/abs/2407.01257, uses such measures
for speech)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.store import Store, stage_key
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import UNLABELLED, Indices
from edgedistill.distill.stored.mixing import Signal
from edgedistill.documents.build_file import TrainConfig

STAGE: Final = "filter"
KEPT: Final = "kept.npy"
_CODE: Final = ("edgedistill.distill.stored.filtering",)
_CHUNK: Final = 8192


@dataclass(frozen=True, eq=False)
class Certainty:
    """Of each image, float32 [n] in 0..1: `confidence` is the mean over views of the largest probability, `agreement` the
    share of views whose class is the one that the teacher names most."""

    confidence: NDArray[np.float32]
    agreement: NDArray[np.float32]


def certainty(logits: Signal, views: int) -> Certainty:
    """Of all images of the training split, by `logits` on their `views`."""
    confidence, agreement = (np.empty(logits.images, np.float32) for _ in range(2))
    for start in range(0, logits.images, _CHUNK):
        positions = np.arange(start, min(start + _CHUNK, logits.images), dtype=np.int64)
        rows = np.arange(len(positions))
        votes = np.zeros((len(positions), logits.width), np.int32)
        largest = np.zeros(len(positions))
        for view in range(views):
            # Rows are shifted so that their largest is 0: its probability is one over the sum.
            said = logits.at(view, positions).astype(np.float32)
            largest += 1 / np.exp(said).sum(axis=1)
            votes[rows, said.argmax(axis=1)] += 1
        confidence[positions] = largest / views
        agreement[positions] = votes.max(axis=1) / views
    return Certainty(confidence, agreement)


def agreement_with(labels: Indices, logits: Signal, views: int) -> float | None:
    """How often the teacher's class is the label, over `views` of the images that have one; None where none has. `labels`
    [n] are those of the training split."""
    known, right = np.flatnonzero(labels != UNLABELLED), 0
    if not len(known):
        return None
    for start in range(0, len(known), _CHUNK):
        positions = known[start : start + _CHUNK]
        right += sum(
            int((logits.at(view, positions).argmax(axis=1) == labels[positions]).sum()) for view in range(views)
        )
    return right / (views * len(known))


def filtered(store: Store, dataset: Dataset, logits: Signal, views: int, config: TrainConfig) -> Path:
    """The file of the positions that are learnt from, int64, found or made: all images with a label, and the others of which
    the teacher is as sure as `[train]` asks."""
    key = stage_key(
        {
            "logits": logits.key,
            "labels": np.packbits(_labelled(dataset)).tobytes().hex(),
            "min_confidence": config.min_confidence,
            "min_agreement": config.min_agreement,
        },
        code=_CODE,
        tools=("numpy",),
    )

    def make(folder: Path) -> None:
        sure = certainty(logits, views)
        enough = (sure.confidence >= config.min_confidence) & (sure.agreement >= config.min_agreement)
        np.save(folder / KEPT, np.flatnonzero(_labelled(dataset) | enough).astype(np.int64))

    return store.stage(STAGE, key, make, subject="images without a label") / KEPT


def _labelled(dataset: Dataset) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = dataset.labels[dataset.splits.train] != UNLABELLED
    return known


def without_label(dataset: Dataset) -> Indices:
    """Positions in the training split of the images that have none."""
    return np.flatnonzero(~_labelled(dataset))
