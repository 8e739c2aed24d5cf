"""Fitting, labelling and training as work items.

A work item is plain values, and what it makes is a stage of the cache: any process that does it, with the same cache, leaves
the same folder under the same key, and it is done once. An item that another process is at is put off, so that two builds
that share a cache share the work.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from edgedistill.base.errors import EdgedistillError, InputError, TrialFailure
from edgedistill.base.store import BusyError
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.making import PART_STAGE
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.specs import QuantScheme, StudentSpec
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.teacher import STAGE as FIT_STAGE
from edgedistill.pipeline.teacher import fit, missing_fits, open_labelling
from edgedistill.pipeline.train import lessons_of, source_of, train, tuned, tuning_key
from edgedistill.pipeline.workbench import Executor, Made, Place, Result, Workbench, WorkItem


@dataclass(frozen=True, kw_only=True)
class TrainItem(WorkItem[TrainedStudent]):
    """One training on `stored` views: `spec` up to the end of `epochs` of a schedule of `total_epochs`, from `previous`, an
    earlier rung of it."""

    stored: SplitStore
    spec: StudentSpec
    epochs: int
    total_epochs: int
    previous: TrainedStudent | None = None

    stage = "train"

    @property
    def label(self) -> str:
        return f"the training of {self.spec.label}"

    def make(self, bench: Workbench) -> TrainedStudent:
        return train(
            bench,
            self.spec,
            self.stored,
            epochs=self.epochs,
            total_epochs=self.total_epochs,
            previous=self.previous,
            wait=self.wait,
        )


@dataclass(frozen=True, kw_only=True)
class TuneItem(WorkItem[bool]):
    """The training of `student` under the rounding of `scheme`, on `stored` views."""

    stored: SplitStore
    student: TrainedStudent
    scheme: QuantScheme

    stage = "tune"

    @property
    def label(self) -> str:
        return f"the training of {self.student.spec.label} under rounding"

    def make(self, bench: Workbench) -> bool:
        """The weights are in the cache then."""
        lessons = lessons_of(bench, self.student.spec, self.stored)
        tuned(bench, source_of(bench, self.student), self.scheme, lessons)
        return True


@dataclass(frozen=True, kw_only=True)
class FitItem(WorkItem[bool]):
    """The fitting of the teacher, or of the one without the images of a fold."""

    fold: int | None = None

    stage = FIT_STAGE

    @property
    def label(self) -> str:
        return "the fitting of the teacher" + (
            "" if self.fold is None else f" without part {self.fold + 1} of the images"
        )

    def make(self, bench: Workbench) -> bool:
        """The weights are in the cache then."""
        fit(bench, self.fold, wait=self.wait)
        return True


@dataclass(frozen=True, kw_only=True)
class LabelItem(WorkItem[bool]):
    """What the teacher gives on view index `view` of `views` at the taps of `signal_keys`, which has the signal's key of
    each. All processes label in `autocast`, whatever device each has: see `Labeller`."""

    views: StoredViews
    view: int
    signal_keys: Mapping[str, str]
    autocast: torch.dtype | None = None

    stage = PART_STAGE

    @property
    def label(self) -> str:
        return f"the labelling of view {self.view + 1}"

    def make(self, bench: Workbench) -> bool:
        """It is in the cache then. Raises InputError where this process would make others than those that are wanted."""
        labelling = open_labelling(bench, self.views, tuple(self.signal_keys), self.autocast)
        if labelling.keys != self.signal_keys:
            raise InputError(
                "a worker has another teacher, other data or other packages than the build",
                fix="let all machines see the same files, with the same versions of edgedistill and torch",
            )
        labelling.view(self.view, wait=self.wait)
        return True


def do_all(
    executor: Executor, items: Sequence[WorkItem[Made]], *, wait: bool = True
) -> Generator[tuple[int, Made | TrialFailure], None, None]:
    """The items done, with their numbers, as they end: first those that no other process is at, then, with `wait`, the
    others. Closed before its end, it begins no more of them."""
    left = dict(enumerate(items))
    for waiting in (False, True) if wait else (False,):
        if not left:
            return
        numbers = list(left)
        for place, result in executor.run([replace(left[number], wait=waiting) for number in numbers]):
            if result is not None:
                del left[numbers[place]]
                yield numbers[place], result


def train_all(executor: Executor, items: Sequence[TrainItem]) -> list[TrainedStudent | TrialFailure]:
    """All trainings done, in their order."""
    done = dict(do_all(executor, items))
    return [done[number] for number in range(len(items))]


def fit_all(bench: Workbench, executor: Executor) -> None:
    """Have all teachers that the build file asks to be fitted in the cache, done by `executor`. Raises InputError where
    training diverges, EdgedistillError where its processes die."""
    items = [FitItem(place=Place.of(one), fold=fold) for one in (bench, *bench.others) for fold in missing_fits(one)]
    for _, result in do_all(executor, items):
        if isinstance(result, TrialFailure):
            raise EdgedistillError(
                f"the teacher cannot be fitted: {result.message}",
                fix="see what ended it, most often memory: lower batch_size in [teacher.fit], or --jobs",
            )


@dataclass(frozen=True, eq=False)
class Tuning:
    """Trains a student under rounding, in a process of its own, its views as they are stored: the ladder's last resort."""

    bench: Workbench
    stored: SplitStore
    student: TrainedStudent

    @property
    def key(self) -> str:
        """What identifies the views."""
        return self.stored.key

    def of(self, source: Source, scheme: QuantScheme) -> Source:
        """What training `source`, the student's, under the rounding of `scheme` made of it. Raises TrialFailure where that
        diverges or crashes."""
        bench = self.bench
        lessons = lessons_of(bench, self.student.spec, self.stored)
        if bench.store.find("tune", tuning_key(bench, source, scheme, lessons)) is None:
            item = TuneItem(place=Place.of(bench), stored=self.stored, student=self.student, scheme=scheme)
            for _, result in do_all(bench.doing, [item]):
                if isinstance(result, TrialFailure):
                    raise result
        return tuned(bench, source, scheme, lessons)


def do(item: WorkItem[Made], bench: Workbench) -> Result[Made]:
    """Do one item on `bench`."""
    try:
        return item.make(bench)
    except BusyError:
        return None
    except TrialFailure as failure:
        return failure
