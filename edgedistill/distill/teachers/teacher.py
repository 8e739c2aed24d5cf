"""The teacher as the rest of the package sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.base.store import digest
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import UNLABELLED, Indices
from edgedistill.data.splits import stratified
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Contract


@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded teacher. `module` takes float [N, 3, R, R] in 0..255 (R = `contract.resolution`, normalisation inside) and
    gives float logits [N, classes], or vectors of length 1 [N, D]; it is in eval mode on the CPU. `key` hashes architecture
    and weights, which were `trained` before (all but a classifier of other classes) or are random. `file` is all that there
    is of a teacher that came as a file, which `module` then asks. `outputs` float32 [images, width] are all that there is of
    one that nothing here can ask; its size is not known then."""

    name: str
    module: nn.Module
    contract: Contract
    key: str
    parameters: int | None
    trained: bool = False
    file: ExportedModel | None = None
    outputs: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Crossfit:
    """Teachers like the one of the build, each fitted without one fold of the labelled images. `folds` [n] is the fold of
    each image of the training split, which `teachers` of that number labels; -1 for an image without a label, which the
    build's own labels."""

    teachers: tuple[Teacher, ...]
    folds: Indices

    @property
    def key(self) -> str:
        """What identifies the teachers and the images that each of them labels."""
        return digest([[teacher.key for teacher in self.teachers], self.folds.tolist()])


def folds_of(dataset: Dataset, count: int, seed: int) -> Indices:
    """The fold of each image of the training split, 0..`count` - 1, stratified by class; -1 for those without a label."""
    labels = dataset.labels[dataset.splits.train]
    folds = np.full(len(labels), -1, np.int64)
    known = np.flatnonzero(labels != UNLABELLED)
    for number, part in enumerate(stratified(labels[known], (1 / count,) * (count - 1), seed)):
        folds[known[part]] = number
    return folds
