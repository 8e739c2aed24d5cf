"""What networks are trained for: what a head gives, and how good its answers are.

A task is a frozen object that training, verifying and reporting share. A contract tells it: so it travels with every file.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.documents.recipes import EMBEDDING, LOGITS
from edgedistill.documents.specs import Contract, Metric, Score, TaskName, VectorContract

Outputs = NDArray[np.floating]
Truth = NDArray[np.integer]

NEIGHBOURS: Final = 20
TEMPERATURE: Final = 0.07
"""Of the votes of neighbours: Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4."""
_CHUNK: Final = 1024


@dataclass(frozen=True)
class Task(ABC):
    """`metric` is the field's name of what `score` gives, as it is shown beside a figure; `output` the name of what a
    network gives."""

    name: TaskName
    metric: Metric
    output: str

    @abstractmethod
    def head_width(self, classes: int) -> int:
        """How many numbers a network gives for an image, of data with so many classes."""

    @abstractmethod
    def right(self, outputs: Outputs, truth: Truth) -> NDArray[np.bool_]:
        """Which images [n] are answered rightly, by all outputs float [n, width] of a split and what its images are, int
        [n]. Files are compared image by image by this."""

    @abstractmethod
    def distance(self, reference: Outputs, outputs: Outputs) -> float:
        """How far outputs float [n, width] are from those of another network for the same images, at least 0: what rounding
        does is ranked by it."""

    @abstractmethod
    def guessing(self, truth: Truth) -> tuple[float, str]:
        """The score of what has learnt nothing, and a sentence's begin that says what it is."""

    def score(self, outputs: Outputs, truth: Truth) -> float:
        """The share of the images that are answered rightly, in 0..1. Raises ValueError where there are none, or not as many
        outputs as images."""
        if not len(outputs) == len(truth) > 0:
            raise ValueError(f"{len(outputs)} outputs for {len(truth)} images")
        return float(self.right(outputs, truth).mean())


class Classification(Task):
    """A logit a class. An answer is right if the largest logit is the label's; of several largest ones the first counts."""

    def head_width(self, classes: int) -> int:
        return classes

    def right(self, outputs: Outputs, truth: Truth) -> NDArray[np.bool_]:
        answered: NDArray[np.bool_] = outputs.argmax(axis=1) == truth
        return answered

    def distance(self, reference: Outputs, outputs: Outputs) -> float:
        """KL(softmax(reference) || softmax(outputs)), the mean over rows, in nats."""
        p, q = _log_softmax(reference), _log_softmax(outputs)
        return max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean()))

    def guessing(self, truth: Truth) -> tuple[float, str]:
        return float(np.bincount(truth).max() / len(truth)), "always naming the most frequent class gets"


CLASSIFICATION: Final = Classification("classification", "accuracy", LOGITS)

_METRICS: Final[dict[Score, Metric]] = {
    "retrieval": "recall@1",
    "knn": "k-NN accuracy",
    "zero_shot": "zero-shot accuracy",
}


@dataclass(frozen=True)
class Embedding(Task):
    """A vector of `dimension` numbers, of length 1. An answer is a class, told from the cosines of a vector to others.

    `retrieval`: that of the nearest other image of the split. `knn`: that with most votes of the NEIGHBOURS nearest other
    images of the split, each weighing exp(cosine / TEMPERATURE) (Wu et al. 2018, https://arxiv.org/abs/1805.01978, section
    3.4). `zero_shot`: that of the nearest of `classes`, float32 [C, dimension] as bytes, a vector a class (Radford et al.
    2021, https://arxiv.org/abs/2103.00020). Of several equal ones the first counts.
    """

    dimension: int
    how: Score
    classes: bytes = b""

    @classmethod
    def of(cls, vector: VectorContract) -> Embedding:
        """What a contract asks for."""
        known = _unpacked(vector)
        classes = b"" if known is None else known.tobytes()
        return cls("embedding", _METRICS[vector.score], EMBEDDING, vector.dimension, vector.score, classes)

    def head_width(self, classes: int) -> int:
        return self.dimension

    def right(self, outputs: Outputs, truth: Truth) -> NDArray[np.bool_]:
        answered: NDArray[np.bool_] = self.answered(outputs, truth) == truth
        return answered

    def answered(self, outputs: Outputs, truth: Truth) -> NDArray[np.int64]:
        """The class of each image [n]."""
        rows = unit(outputs)
        if self.how == "zero_shot":
            vectors = np.frombuffer(self.classes, np.float32).reshape(-1, self.dimension)
            nearest: NDArray[np.int64] = (rows @ unit(vectors).T).argmax(axis=1)
            return nearest
        return nearest_classes(rows, truth, rows, truth, 1 if self.how == "retrieval" else NEIGHBOURS, own=True)

    def distance(self, reference: Outputs, outputs: Outputs) -> float:
        """1 - cosine, the mean over rows."""
        return max(0.0, float(1 - cosines(reference, outputs).mean()))

    def guessing(self, truth: Truth) -> tuple[float, str]:
        return float(np.bincount(truth).max() / len(truth)), "the most frequent class is"


def nearest_classes(
    rows: Outputs, truth: Truth, gallery: Outputs, labels: Truth, neighbours: int, *, own: bool = False
) -> NDArray[np.int64]:
    """The class of each of `rows` [n, D] by a vote of its nearest `neighbours` of `gallery` [m, D] with `labels` [m]; all
    are of length 1. With `own` the gallery are the rows themselves, and none votes on itself. -1 where there is no
    neighbour."""
    count = int(max(truth.max(initial=0), labels.max(initial=0))) + 1
    found = np.full(len(rows), -1, np.int64)
    most = min(neighbours, len(gallery) - own)
    if most < 1:
        return found
    for start in range(0, len(rows), _CHUNK):
        near = rows[start : start + _CHUNK] @ gallery.T
        if own:
            near[np.arange(len(near)), np.arange(start, start + len(near))] = -np.inf
        # A stable order: of equal cosines the first counts, whatever the number of neighbours.
        places = np.argsort(-near, axis=1, kind="stable")[:, :most]
        votes = np.zeros((len(near), count))
        weights = np.exp((np.take_along_axis(near, places, axis=1) - 1) / TEMPERATURE)
        np.add.at(votes, (np.arange(len(near))[:, None], labels[places]), weights)
        found[start : start + _CHUNK] = votes.argmax(axis=1)
    return found


def unit(rows: Outputs) -> NDArray[np.float32]:
    """Rows [n, D] at length 1, in double precision till then; a row of zeros stays one."""
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    found: NDArray[np.float32] = (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return found


def cosines(rows: Outputs, others: Outputs) -> NDArray[np.float64]:
    """Of each row [n, D] and the other of its place [n]."""
    found: NDArray[np.float64] = (unit(rows).astype(np.float64) * unit(others)).sum(axis=1)
    return found


def packed(vectors: NDArray[np.float32]) -> str:
    """Vectors of classes [C, D] as `VectorContract.class_vectors` has them, at length 1."""
    return base64.b64encode(unit(vectors).astype("<f2").tobytes()).decode()


def _unpacked(vector: VectorContract) -> NDArray[np.float32] | None:
    """The class vectors float32 [C, dimension] of a contract; None without such."""
    if not vector.class_vectors:
        return None
    numbers = np.frombuffer(base64.b64decode(vector.class_vectors), "<f2").reshape(-1, vector.dimension)
    found: NDArray[np.float32] = numbers.astype(np.float32)
    return found


def class_vectors(contract: Contract) -> NDArray[np.float32] | None:
    """Vectors of classes float32 [C, dimension] that a contract carries; None where it has none."""
    return None if contract.vector is None else _unpacked(contract.vector)


def task_of(contract: Contract) -> Task:
    """What a file with that contract is for."""
    return CLASSIFICATION if contract.vector is None else Embedding.of(contract.vector)


def _log_softmax(logits: Outputs) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
