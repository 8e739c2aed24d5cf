"""What a file answers to the test split: which classes it confuses, and its most confident mistakes as small pictures.

For the report alone: nothing decides anything by it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import printable
from edgedistill.base.store import write_atomic
from edgedistill.data.datasets import Dataset
from edgedistill.data.folder import FolderImages
from edgedistill.documents.results import (
    MOST_MISTAKES,
    Confidence,
    Confused,
    Mistake,
    PredictionsOnTest,
    ReliabilityBin,
)
from edgedistill.documents.specs import Contract
from edgedistill.networks.confidence import calibration_error, probabilities, reliability
from edgedistill.pipeline.workbench import Workbench

MISTAKES = "mistakes"
SIDE = 64
MOST_BYTES = 1_200
"""Of a picture: 24 of them then take 39 kB of a report, which is to stay below 1.5 MB."""

_QUALITIES = (70, 50, 30, 10)


class Wrong(NamedTuple):
    """A wrong answer: to which image of the split, and the probabilities of the class predicted and of the label."""

    position: int
    probability: float
    probability_of_label: float


@dataclass(frozen=True, eq=False)
class AnswersOnTest:
    """The classes that a file `predicted` for images with these `labels`, both int [n], its most confident mistakes, in
    that order, and how far its probabilities can be taken at their word. Of all shipped files it is kept in memory, which
    their logits would be too large for."""

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    mistakes: tuple[Wrong, ...]
    confidence: Confidence

    @classmethod
    def of(
        cls, logits: Logits, labels: NDArray[np.int64], temperature: float = 1.0, none_below: float | None = None
    ) -> AnswersOnTest:
        """From logits float32 [n, C], with probabilities at that temperature. Mistakes that are equally confident are in the
        order of the images."""
        predicted, shares = logits.argmax(axis=1), probabilities(logits, temperature)
        right, wrong = predicted == labels, np.flatnonzero(predicted != labels)
        rows = np.arange(len(labels))
        confidence, of_label = shares[rows, predicted], shares[rows, labels]
        first = wrong[np.argsort(-confidence[wrong], kind="stable")[:MOST_MISTAKES]].tolist()
        mistakes = (Wrong(i, float(confidence[i]), float(of_label[i])) for i in first)
        bins = reliability(confidence, right)
        return cls(
            labels,
            predicted,
            tuple(mistakes),
            Confidence(
                temperature=temperature,
                calibration_error=calibration_error(confidence, right),
                raw_calibration_error=calibration_error(probabilities(logits).max(axis=1), right),
                bins=tuple(ReliabilityBin(images=n, confidence=mean, accuracy=share) for n, mean, share in bins),
                none_below=none_below,
                right_kept=_share(confidence[right], none_below, kept=True),
                wrong_caught=_share(confidence[~right], none_below, kept=False),
            ),
        )


def _share(confidence: NDArray[np.float64], none_below: float | None, *, kept: bool) -> float | None:
    """The share of these answers that is kept, or that becomes "none of these"; None where there is no such answer."""
    if none_below is None or not len(confidence):
        return None
    return float(((confidence >= none_below) == kept).mean())


def predictions_on_test(
    bench: Workbench, contract: Contract, sha256: str, answers: AnswersOnTest, out: Path
) -> PredictionsOnTest:
    """The answers of the file with that hash as build.json tells them. Pictures of its mistakes go to `out/mistakes/`."""
    images, dataset = bench.images("test", contract), bench.dataset
    pairs, counts = np.unique(np.stack([answers.labels, answers.predicted]), axis=1, return_counts=True)
    mistakes = []
    for number, wrong in enumerate(answers.mistakes, 1):
        thumbnail = f"{MISTAKES}/{number:02d}.webp"
        write_atomic(out / thumbnail, webp(images[wrong.position : wrong.position + 1][0]))
        mistakes.append(
            Mistake(
                label=int(answers.labels[wrong.position]),
                predicted=int(answers.predicted[wrong.position]),
                probability=wrong.probability,
                probability_of_label=wrong.probability_of_label,
                image=image_name(dataset, bench.data.path, int(dataset.splits.test[wrong.position])),
                thumbnail=thumbnail,
            )
        )
    return PredictionsOnTest(
        artifact_sha256=sha256,
        images=len(answers.labels),
        classes=dataset.classes,
        confusion=tuple(
            Confused(label=label, predicted=predicted, count=count)
            for (label, predicted), count in zip(pairs.T.tolist(), counts.tolist(), strict=True)
        ),
        mistakes=tuple(mistakes),
        confidence=answers.confidence,
    )


def image_name(dataset: Dataset, folder: Path | None, index: int) -> str:
    """What a user calls an image: its path from the data `folder`, else its place in the data set, counted from 0."""
    if folder is None or not isinstance(dataset.images, FolderImages):
        return f"image {index} of {dataset.name}"
    name = Path(dataset.images.paths[index]).relative_to(folder).as_posix()
    # A file's name may hold bytes that are not UTF-8, which no document can, and characters that a terminal acts on.
    return printable(name.encode(errors="replace").decode())


def webp(pixels: Images) -> bytes:
    """An image uint8 [3, R, R] as WebP of at most SIDE pixels a side, in the best quality that keeps it inside MOST_BYTES,
    else in the least one."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.thumbnail((SIDE, SIDE))
    for quality in _QUALITIES:
        written = io.BytesIO()
        picture.save(written, "WEBP", quality=quality, method=6)
        if written.tell() <= MOST_BYTES:
            break
    return written.getvalue()
