"""What networks are trained for: what a head gives, and how good its answers are.

A task is a frozen object that training, verifying and reporting share. `Contract.task` names it: so it travels with every
file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.documents.specs import Contract, Metric

Outputs = NDArray[np.floating]
Truth = NDArray[np.integer]


@dataclass(frozen=True)
class Task(ABC):
    """`metric` is the field's name of what `score` gives, as it is shown beside a figure."""

    name: str
    metric: Metric

    @abstractmethod
    def head_width(self, classes: int) -> int:
        """How many numbers a network gives for an image, of data with so many classes."""

    @abstractmethod
    def right(self, outputs: Outputs, truth: Truth) -> NDArray[np.bool_]:
        """Which images [n] are answered rightly, by all outputs float [n, width] of a split and what its images are, int
        [n]. Files are compared image by image by this."""

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


CLASSIFICATION: Final = Classification("classification", "accuracy")

TASKS: Final = MappingProxyType({task.name: task for task in (CLASSIFICATION,)})
"""By name."""


def task_of(contract: Contract) -> Task:
    """What a file with that contract is for."""
    return TASKS[contract.task]
