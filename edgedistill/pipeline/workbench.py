"""A build's bench: its build file, its teachers, and what is done on it by whatever process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar

from edgedistill.base.errors import InputError, TrialFailure
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import Statistics, remember_statistics
from edgedistill.data.working import working_side
from edgedistill.distill.recipes.losses import Recipe, recipe_of
from edgedistill.distill.teachers.ensemble import Ensemble
from edgedistill.distill.teachers.open_clip_models import read_class_vectors
from edgedistill.distill.teachers.places import of_teacher
from edgedistill.distill.teachers.teacher import Crossfit, Teacher
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.lengths import batch_size_of, epochs_of
from edgedistill.documents.recipes import DEFAULT
from edgedistill.documents.results import RecipeChoice
from edgedistill.documents.specs import (
    Score,
    Target,
    VectorContract,
)
from edgedistill.networks.space import largest_resolution
from edgedistill.networks.tasks import packed
from edgedistill.pipeline.bench import Bench, Data
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.teacher_side import teacher_dimension, teacher_side

Made = TypeVar("Made")
Made_co = TypeVar("Made_co", covariant=True)


@dataclass(eq=False, kw_only=True)
class Workbench(Bench):
    """A build's bench: besides, its build file, which lies in the folder `base`, what does its labelling and training, and
    its teacher, those of its folds and what several come to once `teacher.open_teacher`, `open_crossfit` and
    `ensemble.open_ensemble` have loaded them. `unfitted` is the teacher as it comes, for as long as that is needed, and
    `number` which of several it is, 0 for `[teacher]`; `dimension` that of its teacher's vectors, once it is known;
    `not_fetched` the models of its space whose pretrained weights could not be."""

    config: BuildConfig
    base: Path
    executor: Executor | None = None
    unfitted: Teacher | None = None
    teacher: Teacher | None = None
    crossfit: Crossfit | None = None
    ensemble: Ensemble | None = None
    choice: RecipeChoice | None = None
    number: int = 0
    dimension: int | None = None
    not_fetched: tuple[str, ...] = ()

    @cached_property
    def vector(self) -> VectorContract | None:
        """As long as its teacher's. Raises InputError where that cannot be told, the class vectors cannot be read, or the
        score is of classes and no image has a label."""
        if self.config.task == "classification":
            return None
        score = score_of(self.config, self.dataset)
        if self.dimension is None:
            with of_teacher(self.number):
                self.dimension = teacher_dimension(self.config.teacher, self.base)
        classes, path = self.dataset.classes, self.config.class_vectors
        vectors = "" if path is None else packed(read_class_vectors(path, classes, self.dimension))
        return VectorContract(dimension=self.dimension, score=score, class_vectors=vectors)

    @property
    def doing(self) -> Executor:
        """What does its labelling and training; a worker's own bench has none."""
        assert self.executor is not None, "this bench neither labels nor trains"
        return self.executor

    @property
    def taught(self) -> Dataset:
        """The data that students see: without the images that have no label, where the recipe asks no teacher."""
        asked = not self.recipe_is_settled or self.recipe.taps
        return self.dataset if asked else self.dataset.labelled

    @cached_property
    def working_side(self) -> int | None:
        """The shorter side of the working copies that its teacher and all students of its space see views of; None where
        images need no decoding, and views are of them as they are."""
        if self.dataset.images.decoded:
            return None
        classes = None if self.vector else len(self.dataset.classes)
        teachers = [teacher_side(teacher, classes, self.base) for teacher in self.config.all_teachers]
        students = largest_resolution(self.space, self.source_side)
        return working_side(max(*teachers, students), self.config.augmentation)

    @cached_property
    def others(self) -> tuple[Workbench, ...]:
        """For each further teacher the same bench, of a build whose `[teacher]` it is. Their working copies are the same."""
        config, found = self.config, []
        for number, teacher in enumerate(config.teachers):
            rest = (config.teacher, *config.teachers[:number], *config.teachers[number + 1 :])
            changed = config.model_copy(update={"teacher": teacher, "teachers": rest})
            own: dict[str, Any] = dict.fromkeys(("unfitted", "teacher", "crossfit", "ensemble", "choice", "dimension"))
            found.append(replace(self, config=changed, number=number + 1, **own))
        return tuple(found)

    @property
    def recipe_is_settled(self) -> bool:
        """Whether it is known what students minimise; `default` is chosen when the data and the teacher are known."""
        return self.config.train.recipe != DEFAULT or bool(self.config.train.terms)

    @property
    def recipe(self) -> Recipe:
        """What students minimise. Raises InputError for terms that cannot be used."""
        return recipe_of(self.config.train)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at which candidates are compared."""
        images = len(self.taught.splits.train)
        batch_size = min(batch_size_of(self.config.train.batch_size, images), images)
        return epochs_of(self.config.search.rungs, -(-images // batch_size))

    @property
    def pilot_epochs(self) -> int:
        """Of a pilot: those of the second rung. At the first one students differ by chance more than by their recipes."""
        return self.rungs[:2][-1]

    @classmethod
    def of(cls, config: BuildConfig, target: Target, data: Data, store: Store, meter: Meter, base: Path) -> Workbench:
        """With what the build file says."""
        bench = cls(
            target=target,
            store=store,
            data=config.data,
            dataset=data.dataset,
            mean=data.mean,
            std=data.std,
            export=config.export,
            meter=meter,
            space=config.space,
            config=config,
            base=base,
        )
        remember_statistics(bench.dataset, (data.mean, data.std))
        return bench


@dataclass(frozen=True)
class Place:
    """What any process opens a build's bench from: its build file, which lies in the folder `base`, its target, the `root`
    of the cache, and mean and deviation of its training images: those of large ones take long to find. So does the
    `dimension` of a teacher's vectors. `vectors` are those that students are judged by, see `Bench`."""

    config: BuildConfig
    target: Target
    base: Path
    root: Path
    statistics: tuple[Statistics, Statistics]
    dimension: int | None = None
    vectors: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, bench: Workbench) -> Place:
        """That of a bench."""
        statistics, root = (bench.mean, bench.std), bench.store.root
        return cls(bench.config, bench.target, bench.base, root, statistics, bench.dimension, dict(bench.vectors))


@dataclass(frozen=True, kw_only=True)
class WorkItem(ABC, Generic[Made_co]):
    """A stage of the cache, done for the build that `place` describes. Without `wait` an item that another process is at
    comes back undone."""

    place: Place
    wait: bool = False

    stage: ClassVar[str]

    @property
    @abstractmethod
    def label(self) -> str:
        """What is done, in a few words."""

    @abstractmethod
    def make(self, bench: Workbench) -> Made_co:
        """Do it on `bench`. Raises TrialFailure where it fails for a reason of its own, BusyError where another process is
        at it and `wait` is off."""


Result: TypeAlias = Made | TrialFailure | None
"""What became of an item; None where another process is at it."""


class Executor(Protocol):
    """What does work items. It is a context: what it holds for the next batch ends there."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...

    def run(self, items: Sequence[WorkItem[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        """What became of each item, with its number, as they end. Raises what a user has to mend."""


def score_of(config: BuildConfig, dataset: Dataset) -> Score:
    """How the vectors of a build are judged on its data. Raises InputError for what needs labels where no image has one."""
    asked, labelled = config.embedding.score, bool(dataset.classes)
    score: Score = asked if asked != "auto" else "retrieval" if labelled else "neighbours"
    if labelled or (score == "neighbours" and config.search.folds is None):
        return score
    wrong = "[search] folds" if score == "neighbours" else f'[embedding] score = "{score}"'
    raise InputError(
        f"{wrong} needs labels, and no image of {dataset.name} has one",
        fix="leave it out, or put the images into a folder for each class",
    )
