"""A pilot: one student trained for few epochs in several ways, so that they can be compared on the validation split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.errors import TrialFailure
from edgedistill.base.intervals import unpack
from edgedistill.base.progress import Note
from edgedistill.distill.evaluate import split_right
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.train import load_student
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.results import PilotRun
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.crossing import cross_validated
from edgedistill.pipeline.work import TrainItem, do_all
from edgedistill.pipeline.workbench import Place, Workbench

CLEAR: Final = 2.0
"""Standard deviations from which on a difference is one."""
Right = NDArray[np.bool_]


def pilot_student(candidates: Sequence[Candidate], most_multiply_adds: float) -> Candidate:
    """The middle one by multiply-adds of those that may fit the budget."""
    by_size = sorted(candidates, key=lambda candidate: (candidate.multiply_adds, candidate.spec.label))
    fitting = [candidate for candidate in by_size if candidate.multiply_adds <= most_multiply_adds] or by_size[:1]
    return fitting[len(fitting) // 2]


def trained_for(bench: Workbench, stored: SplitStore, spec: StudentSpec, epochs: int) -> TrainedStudent:
    """The student after a schedule of so many epochs on what is `stored`. Raises TrialFailure where that fails."""
    item = TrainItem(place=Place.of(bench), stored=stored, spec=spec, epochs=epochs, total_epochs=epochs)
    ((_, trained),) = do_all(bench.doing, [item])
    if isinstance(trained, TrialFailure):
        raise trained
    return trained


@dataclass(frozen=True, eq=False)
class Judged:
    """A student of a pilot, and which images [n] it answers rightly: those of the validation split, or of both that and the
    training split in cross-validation."""

    run: PilotRun
    right: Right


def judged(bench: Workbench, stored: SplitStore, spec: StudentSpec, what: str) -> Judged | None:
    """The student after the epochs of the pilot on what is `stored`; None where that fails, which a warning tells of
    `what` is tried."""
    epochs, folds = bench.pilot_epochs, bench.config.search.folds
    try:
        if folds is not None:
            found = cross_validated(bench, stored, spec, folds, epochs)
            run = _run(bench, spec, epochs, found.quality)
            crossed = {"images": found.images, "part_qualities": found.part_qualities}
            return Judged(run.model_copy(update=crossed), np.array(unpack(found.right, found.images)))
        trained = trained_for(bench, stored, spec, epochs)
    except TrialFailure as failure:
        bench.store.listener(Note(f"pilot of {what}: {failure.message}", warning=True))
        return None
    contract, validation = bench.contract_of(spec), bench.dataset.splits.validation
    truth = bench.truth("validation")
    right = split_right(load_student(trained, contract), bench.dataset, validation, contract, truth)
    return Judged(_run(bench, spec, epochs, trained.quality_validation), right)


def _run(bench: Workbench, spec: StudentSpec, epochs: int, quality: float) -> PilotRun:
    recipe = bench.config.train.recipe_name
    return PilotRun(recipe=recipe, student=spec.label, epochs=epochs, quality_validation=quality)


def ahead(one: Right, other: Right) -> float:
    """By how much `one` is right on more images than `other`, the same images for both. Two students differ on few of them:
    those alone are counted, in deviations of a fair coin (McNemar 1947, https://doi.org/10.1007/BF02295996)."""
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return (gained - lost) / math.sqrt(max(1, gained + lost))
