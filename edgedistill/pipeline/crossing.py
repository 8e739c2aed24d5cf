"""Cross-validation: a student trained several times, each time without a part of the images, which it then answers.

A validation split of a few dozen images ranks students by chance. Every image of the training and the validation split can
judge them where it was left out of training: then several times as many do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.errors import TrialFailure
from edgedistill.base.intervals import pack
from edgedistill.base.store import stage_key
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import UNLABELLED, Indices
from edgedistill.data.splits import stratified
from edgedistill.distill.evaluate import split_right
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.train import load_student
from edgedistill.documents.artifacts import CrossValidation
from edgedistill.documents.specs import StudentSpec
from edgedistill.pipeline.work import TrainItem, do_all
from edgedistill.pipeline.workbench import Place, Workbench

STAGE: Final = "fold"
KEPT: Final = "kept.npy"


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the images that judge: `left_out` are its positions in the training split, `rows` where all of its images
    stand among those that judge, and `indices` which of the data set they are."""

    left_out: Indices
    rows: Indices
    indices: Indices


def parts_of(dataset: Dataset, count: int, seed: int) -> Iterator[Part]:
    """The labelled images of the training and the validation split, in that order, in `count` parts, stratified by class."""
    train, validation = dataset.splits.train, dataset.splits.validation
    known = np.flatnonzero(dataset.labels[train] != UNLABELLED)
    judging = np.concatenate([train[known], validation])
    for rows in stratified(dataset.labels[judging], (1 / count,) * (count - 1), seed):
        yield Part(known[rows[rows < len(known)]], rows, judging[rows])


def mixing_groups(bench: Workbench) -> Indices | None:
    """Of each image of the training split, int64 [n], the number of the part that it is left out with, -1 where it is in
    none. Views that mix images of one part alone show no image that is left out beside those that are trained on. None where
    nothing is mixed, or without cross-validation."""
    augmentation, folds = bench.config.view_augmentation, bench.config.search.folds
    if folds is None or not (augmentation.mix or augmentation.cutmix):
        return None
    groups = np.full(len(bench.taught.splits.train), -1, np.int64)
    for number, part in enumerate(parts_of(bench.taught, folds, bench.config.data.split.seed)):
        groups[part.left_out] = number
    return groups


def cross_validated(
    bench: Workbench, stored: SplitStore, spec: StudentSpec, folds: int, epochs: int
) -> CrossValidation:
    """A student of so many epochs, judged by all labelled images of the training and the validation split in `folds` parts.
    The views and what the teacher said of them are those of the whole training split. Raises TrialFailure where one of its
    trainings fails."""
    dataset = bench.taught
    parts = [part for part in parts_of(dataset, folds, bench.config.data.split.seed) if len(part.rows)]
    items = [
        TrainItem(
            place=Place.of(bench),
            stored=without(bench, stored, part.left_out),
            spec=spec,
            epochs=epochs,
            total_epochs=epochs,
        )
        for part in parts
    ]
    right = np.zeros(sum(len(part.rows) for part in parts), bool)
    contract = bench.contract_of(spec)
    for number, trained in do_all(bench.doing, items):
        if isinstance(trained, TrialFailure):
            raise TrialFailure(f"cross-validation: {trained.message}", fix=trained.fix)
        part = parts[number]
        right[part.rows] = split_right(load_student(trained, contract), dataset, part.indices, contract)
    return CrossValidation(
        student=spec.label,
        folds=folds,
        quality=float(right.mean()),
        part_qualities=tuple(float(right[part.rows].mean()) for part in parts),
        images=len(right),
        right=pack(right.tolist()),
    )


def without(bench: Workbench, stored: SplitStore, left_out: NDArray[np.int64]) -> SplitStore:
    """What is learnt from without the images at those positions of the training split."""
    key = stage_key(
        {"stored": stored.key, "left_out": left_out.tolist()}, code=("edgedistill.data.splits",), tools=("numpy",)
    )

    def make(folder: Path) -> None:
        np.save(folder / KEPT, np.setdiff1d(stored.positions(), left_out))

    return replace(stored, kept=bench.store.stage(STAGE, key, make, subject="a part of the images") / KEPT)
