"""A pilot: one student trained for few epochs in several ways, so that they can be compared on the validation split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.errors import TrialFailure
from edgedistill.base.progress import Note
from edgedistill.distill.evaluate import split_right
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.train import load_student
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.bench import Workbench
from edgedistill.pipeline.work import Place, TrainItem, do_all

CLEAR: Final = 2.0
"""Standard deviations from which on a difference is one."""
Right = NDArray[np.bool_]


def pilot_student(candidates: Sequence[Candidate], most_multiply_adds: float) -> Candidate:
    """The middle one by multiply-adds of those that may fit the budget."""
    by_size = sorted(candidates, key=lambda candidate: (candidate.multiply_adds, candidate.spec.label))
    fitting = [candidate for candidate in by_size if candidate.multiply_adds <= most_multiply_adds] or by_size[:1]
    return fitting[len(fitting) // 2]


def trained_for(
    bench: Workbench, stored: SplitStore, spec: StudentSpec, epochs: int, what: str
) -> TrainedStudent | None:
    """The student after a schedule of so many epochs on what is `stored`; None where that fails, which a warning tells of
    `what` is tried."""
    item = TrainItem(place=Place.of(bench), stored=stored, spec=spec, epochs=epochs, total_epochs=epochs)
    for _, trained in do_all(bench.doing, [item]):
        if not isinstance(trained, TrialFailure):
            return trained
        bench.store.listener(Note(f"pilot of {what}: {trained.message}", warning=True))
    return None


def right_of(bench: Workbench, trained: TrainedStudent) -> Right:
    """Which validation images [n] a student answers rightly."""
    contract = bench.contract_of(trained.spec)
    return split_right(load_student(trained, contract), bench.dataset, bench.dataset.splits.validation, contract)


def clearly_better(one: Right, other: Right) -> bool:
    """Whether `one` is right on more images than `other`, the same images for both. Two students differ on few of them:
    those alone are counted, in deviations of a fair coin (McNemar 1947, https://doi.org/10.1007/BF02295996)."""
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return gained - lost > CLEAR * math.sqrt(gained + lost)
