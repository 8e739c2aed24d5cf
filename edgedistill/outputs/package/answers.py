"""What a model card tells of answers to the test split: by class, what is taken for what, and how sure a file is of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgedistill.base.intervals import wilson_interval
from edgedistill.documents.results import Confused, PredictionsOnTest

FOLDER: Final = "card"
PICTURES: Final = 6
"""So many wrong pictures a card shows."""
MATRIX_CLASSES: Final = 12
"""Of more classes a table of all pairs would be too wide for a page."""
LISTED: Final = 20
"""So many confusions are listed in its place, and so many of many classes."""


@dataclass(frozen=True)
class ClassAnswers:
    """A class of which there are test `images`: the share that is answered rightly with its 95% interval, and the class that
    most of the others are taken for, with how many; empty and 0 where all are right."""

    name: str
    images: int
    right: float
    interval: tuple[float, float]
    taken_for: str
    taken: int


@dataclass(frozen=True)
class WrongPicture:
    """A picture in the package that is taken for another class."""

    path: str
    label: str
    predicted: str
    probability: float


def by_class(told: PredictionsOnTest) -> tuple[ClassAnswers, ...]:
    """The classes that have test images: in their order, of many the LISTED with the least right answers."""
    rows = list(_classes(told))
    if len(rows) <= MATRIX_CLASSES:
        return tuple(rows)
    return tuple(sorted(rows, key=lambda row: row.right)[:LISTED])


def _classes(told: PredictionsOnTest) -> Iterator[ClassAnswers]:
    for label, images in sorted(told.images_of.items()):
        own = [entry for entry in told.confusion if entry.label == label]
        right = sum(entry.count for entry in own if entry.predicted == label) / images
        most = max((entry for entry in own if entry.predicted != label), key=lambda one: one.count, default=None)
        yield ClassAnswers(
            name=told.classes[label],
            images=images,
            right=right,
            interval=wilson_interval(right, images),
            taken_for=told.classes[most.predicted] if most else "",
            taken=most.count if most else 0,
        )


def matrix(told: PredictionsOnTest) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """For each class the counts of all that its images are taken for; empty for many classes."""
    count, places = {(c.label, c.predicted): c.count for c in told.confusion}, range(len(told.classes))
    if len(told.classes) > MATRIX_CLASSES:
        return ()
    return tuple((told.classes[row], tuple(count.get((row, column), 0) for column in places)) for row in places)


def confusions(told: PredictionsOnTest) -> tuple[Confused, ...]:
    """The most frequent confusions, those first."""
    return tuple(sorted((c for c in told.confusion if c.label != c.predicted), key=lambda c: -c.count)[:LISTED])


def wrong_pictures(told: PredictionsOnTest) -> tuple[WrongPicture, ...]:
    """The most confident mistakes, as they lie in the package."""
    return tuple(
        WrongPicture(
            path=f"{FOLDER}/{Path(mistake.thumbnail).name}",
            label=told.classes[mistake.label],
            predicted=told.classes[mistake.predicted],
            probability=mistake.probability,
        )
        for mistake in told.mistakes[:PICTURES]
    )
