"""What networks are trained for: what a head gives, and how good its answers are.

A task is a frozen object that training, verifying and reporting share. A contract tells it: so it travels with every file.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.documents.recipes import EMBEDDING, LOGITS
from edgedistill.documents.specs import Contract, Metric, Score, TaskName, VectorContract
from edgedistill.networks.confidence import temperature_of

Outputs = NDArray[np.floating]
Labels = NDArray[np.integer]
Truth = NDArray[np.number]
"""What images are: the class of each, int [n], or for the score `neighbours` the teacher's vector of each, float [n, D]."""

NEIGHBOURS: Final = 20
TEMPERATURE: Final = 0.07
"""Of the votes of neighbours: Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4."""
AMONG: Final = 10
"""So many nearest images a search shows: the teacher's nearest has to be one of them."""
_CHUNK: Final = 1024


@dataclass(frozen=True)
class Task(ABC):
    """`metric` is the field's name of what `score` gives, as it is shown beside a figure; `output` the name of what a
    network gives."""

    name: TaskName
    metric: Metric
    output: str

    @property
    def by_teacher(self) -> bool:
        """Whether answers are held against a teacher's vectors, and not against labels."""
        return False

    @abstractmethod
    def head_width(self, classes: int) -> int:
        """How many numbers a network gives for an image, of data with so many classes."""

    @abstractmethod
    def right(self, outputs: Outputs, truth: Truth) -> NDArray[np.bool_]:
        """Which images [n] are answered rightly, by all outputs float [n, width] of a split and what its images are. Files
        are compared image by image by this."""

    @abstractmethod
    def distance(self, reference: Outputs, outputs: Outputs) -> float:
        """How far outputs float [n, width] are from those of another network for the same images, at least 0: what rounding
        does is ranked by it."""

    @abstractmethod
    def guessing(self, truth: Truth) -> tuple[float, str]:
        """The score of what has learnt nothing, and a sentence's begin that says what it is."""

    def temperature(self, outputs: Outputs, truth: Truth) -> float | None:
        """What outputs float [n, width] are divided by for probabilities that mean something, found on a validation split;
        None for a task without probabilities."""
        return None

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
        return _most_frequent(truth), "always naming the most frequent class gets"

    def temperature(self, outputs: Outputs, truth: Truth) -> float | None:
        return temperature_of(outputs, truth)


CLASSIFICATION: Final = Classification("classification", "accuracy", LOGITS)

_METRICS: Final[dict[Score, Metric]] = {
    "retrieval": "recall@1",
    "knn": "k-NN accuracy",
    "zero_shot": "zero-shot accuracy",
    "neighbours": "neighbour recall@10",
}


@dataclass(frozen=True)
class Embedding(Task):
    """A vector of `dimension` numbers, of length 1. An answer is told from the cosines of a vector to others: a class, or
    for `neighbours` the nearest images.

    `retrieval`: that of the nearest other image of the split. `knn`: that with most votes of the NEIGHBOURS nearest other
    images of the split, each weighing exp(cosine / TEMPERATURE) (Wu et al. 2018, https://arxiv.org/abs/1805.01978, section
    3.4). `zero_shot`: that of the nearest of `classes`, float32 [C, dimension] as bytes, a vector a class (Radford et al.
    2021, https://arxiv.org/abs/2103.00020). `neighbours`: the AMONG nearest other images of the split, or all others where
    these are fewer; right where the one that is nearest by the teacher's vectors is among them: recall@R of the nearest
    neighbour, R = AMONG (Jegou, Douze and Schmid 2011, https://doi.org/10.1109/TPAMI.2010.57, section V). Of several equal
    ones the first counts.
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

    @property
    def by_teacher(self) -> bool:
        return self.how == "neighbours"

    def head_width(self, classes: int) -> int:
        return self.dimension

    def right(self, outputs: Outputs, truth: Truth) -> NDArray[np.bool_]:
        if self.by_teacher != (truth.ndim == 2):
            raise ValueError(f"{self.how} cannot be told from a truth of shape {list(truth.shape)}")
        if self.by_teacher:
            return finds_nearest(unit(outputs), unit(truth.astype(np.float32, copy=False)))
        labels = truth.astype(np.int64, copy=False)
        answered: NDArray[np.bool_] = self.answered(outputs, labels) == labels
        return answered

    def answered(self, outputs: Outputs, truth: Labels) -> NDArray[np.int64]:
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
        if self.by_teacher:
            return min(1.0, AMONG / max(1, len(truth) - 1)), "vectors drawn at random get"
        return _most_frequent(truth), "the most frequent class is"


def finds_nearest(rows: Outputs, others: Outputs) -> NDArray[np.bool_]:
    """Of which images [n] the nearest other one by `others` [n, E] is among the AMONG nearest by `rows` [n, D]; all are of
    length 1. Of none where there is one image alone."""
    found, most = np.zeros(len(rows), bool), min(AMONG, len(rows) - 1)
    if most < 1:
        return found
    ours, theirs = _nearest(rows, rows, most, own=True), _nearest(others, others, 1, own=True)
    for (part, places, _), (_, nearest, _) in zip(ours, theirs, strict=True):
        found[part] = (places == nearest).any(axis=1)
    return found


def nearest_classes(
    rows: Outputs, truth: Labels, gallery: Outputs, labels: Labels, neighbours: int, *, own: bool = False
) -> NDArray[np.int64]:
    """The class of each of `rows` [n, D] by a vote of its nearest `neighbours` of `gallery` [m, D] with `labels` [m]; all
    are of length 1. With `own` the gallery are the rows themselves, and none votes on itself. -1 where there is no
    neighbour."""
    count = int(max(truth.max(initial=0), labels.max(initial=0))) + 1
    found = np.full(len(rows), -1, np.int64)
    most = min(neighbours, len(gallery) - own)
    if most < 1:
        return found
    for part, places, near in _nearest(rows, gallery, most, own=own):
        votes = np.zeros((len(near), count))
        np.add.at(votes, (np.arange(len(near))[:, None], labels[places]), np.exp((near - 1) / TEMPERATURE))
        found[part] = votes.argmax(axis=1)
    return found


def _nearest(
    rows: Outputs, gallery: Outputs, count: int, *, own: bool
) -> Iterator[tuple[slice, NDArray[np.int64], Outputs]]:
    """A chunk of `rows` [n, D] a time: which they are, the places [k, count] of the nearest of `gallery` [m, D] to each, the
    nearest first, and their cosines. With `own` the gallery are the rows themselves, and none is its own neighbour."""
    for start in range(0, len(rows), _CHUNK):
        near = rows[start : start + _CHUNK] @ gallery.T
        if own:
            near[np.arange(len(near)), np.arange(start, start + len(near))] = -np.inf
        places = largest(near, count)
        yield slice(start, start + len(near)), places, np.take_along_axis(near, places, axis=1)


def largest(values: Outputs, count: int) -> NDArray[np.int64]:
    """The places [n, count] of the largest of each row of `values` [n, m], the largest first, of equal ones the first: as a
    stable sort of the rows has them, without sorting them."""
    least = -np.partition(-values, count - 1, axis=1)[:, count - 1 : count]
    above, equal = values > least, values == least
    equal &= np.cumsum(equal, axis=1) <= count - above.sum(axis=1, keepdims=True)
    places = np.nonzero(above | equal)[1].reshape(len(values), count)
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    found: NDArray[np.int64] = np.take_along_axis(places, order, axis=1)
    return found


def _most_frequent(labels: Truth) -> float:
    """The share of the most frequent class."""
    return float(np.bincount(labels).max() / len(labels))


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
