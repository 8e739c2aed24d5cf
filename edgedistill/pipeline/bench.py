"""What files are made with, and what they are judged by: the same over all networks of a build, or of a command."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import InputError
from edgedistill.base.isolation import CONVERSION, in_child
from edgedistill.base.store import Store, digest
from edgedistill.data.calibration import calibration_pixels, choose_calibration
from edgedistill.data.datasets import Dataset, Keeping
from edgedistill.data.prepared import PreparedImages, prepared
from edgedistill.data.preprocessing import make_contract, remember_statistics
from edgedistill.data.working import working_side
from edgedistill.distill.recipes.losses import Recipe, recipe_of
from edgedistill.distill.start import start_of
from edgedistill.distill.teachers.open_clip_models import read_class_vectors
from edgedistill.distill.teachers.places import of_teacher
from edgedistill.distill.teachers.teacher import Crossfit, Teacher
from edgedistill.documents.artifacts import CalibrationSet, ExportedModel
from edgedistill.documents.build_file import BuildConfig, DataConfig, ExportConfig, SpaceConfig
from edgedistill.documents.lengths import batch_size_of, epochs_of
from edgedistill.documents.recipes import DEFAULT
from edgedistill.documents.results import RecipeChoice
from edgedistill.documents.specs import (
    Contract,
    Format,
    Precision,
    QuantScheme,
    Score,
    StudentSpec,
    Target,
    VectorContract,
)
from edgedistill.formats import format_for
from edgedistill.formats.running import run_all
from edgedistill.networks.deploy import deploy
from edgedistill.networks.program.program import reference_logits
from edgedistill.networks.space import largest_resolution
from edgedistill.networks.tasks import CLASSIFICATION, Embedding, Task, Truth, packed
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.teacher_side import teacher_dimension, teacher_side

if TYPE_CHECKING:
    from edgedistill.pipeline.ensemble import Ensemble
    from edgedistill.pipeline.work import Executor


@dataclass(frozen=True, eq=False)
class Source:
    """A network ready to be made into files: a student, a teacher, a user's model. `key` hashes its architecture and
    weights; `load` gives the deployed module (eval mode, branches merged, float 0..255 in, the task's outputs out). `file`
    is the fp32 file that is all there is of a network that came as one: `load` raises UnsupportedError then."""

    label: str
    key: str
    contract: Contract
    load: Callable[[], nn.Module]
    file: ExportedModel | None = None


def random_source(label: str, key: str, contract: Contract, build: Callable[[], nn.Module]) -> Source:
    """The network of `build` with random weights, the same ones everywhere; what is drawn next stays as it was."""

    def load() -> nn.Module:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            return deploy(build())

    return Source(label, key, contract, load)


@dataclass(frozen=True, eq=False)
class CalibrationImages:
    """The images that ranges are read off: `pixels` through a contract, uint8 [n, 3, R, R]; `key` tells them apart; `chosen`
    names them in their data set, where they come from one."""

    key: Any
    pixels: Callable[[Contract], Images]
    chosen: CalibrationSet | None = None


@dataclass(eq=False, kw_only=True)
class Maker:
    """What files are made with: for a target, in a store."""

    target: Target
    store: Store

    @property
    @abstractmethod
    def calibration(self) -> CalibrationImages:
        """What static int8 is calibrated on, the same for every network. Raises InputError where there is nothing."""


@dataclass(eq=False, kw_only=True)
class Bench(Maker):
    """Besides, what files are judged by: the images of a data set, kept once they are prepared, the margins, the meter.
    `vectors` are for the score `neighbours` the files of the teacher's by split, once
    `truth.hold_against_teacher` has found them."""

    data: DataConfig
    dataset: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    export: ExportConfig
    meter: Meter
    space: SpaceConfig = field(default_factory=SpaceConfig)
    vectors: dict[str, Path] = field(default_factory=dict)
    _references: dict[str, Logits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dataset.keeping is None:  # else it is another bench's, and stays the one whose statistics are known
            self.dataset = replace(self.dataset, keeping=Keeping(self.store, self.data.decoded_cache))

    @cached_property
    def calibration(self) -> CalibrationImages:
        """The same training images for every network."""
        chosen = choose_calibration(self.dataset, self.export.calibration_images)
        key = [self.data_key, self.export.calibration_images]
        return CalibrationImages(key, lambda contract: calibration_pixels(chosen, self.dataset, contract), chosen)

    @property
    def vector(self) -> VectorContract | None:
        """What students give where they are embeddings; None for classifiers of the data."""
        return None

    @property
    def task(self) -> Task:
        """What networks are trained for."""
        return CLASSIFICATION if self.vector is None else Embedding.of(self.vector)

    def contract(self, resolution: int) -> Contract:
        """The contract of a network at `resolution` whose weights are trained from random ones."""
        return make_contract(self.data, self.dataset.classes, resolution, self.mean, self.std, self.vector)

    def contract_of(self, spec: StudentSpec) -> Contract:
        """The contract of a student. One that starts from trained weights sees images as those were trained on them."""
        if (start := start_of(self.space, spec.family)) is None:
            return self.contract(spec.resolution)
        return make_contract(self.data, self.dataset.classes, spec.resolution, *start.statistics, self.vector)

    def images(self, split: str, contract: Contract) -> PreparedImages:
        """A split's images through the contract, uint8 [n, 3, R, R]."""
        return prepared(self.dataset, getattr(self.dataset.splits, split), contract)

    def labels(self, split: str) -> NDArray[np.int64]:
        """A split's labels, in the order of `images`."""
        indices: NDArray[np.int64] = getattr(self.dataset.splits, split)
        return self.dataset.labels[indices]

    def truth(self, split: str) -> Truth:
        """What the answers to a split are held against, in the order of `images`: its labels, or the teacher's vectors."""
        if split not in self.vectors:
            return self.labels(split)
        found: Truth = np.load(self.vectors[split])
        return found

    @property
    def judged_by(self) -> str | None:
        """What identifies the teacher's vectors of the validation split in the keys of stages; None for labels."""
        path = self.vectors.get("validation")
        return None if path is None else path.parent.name

    def reference(self, source: Source) -> Logits:
        """Outputs of the fp32 torch program on the validation images, of a network that came as a file those of the file:
        what every artifact is held against."""
        if source.key not in self._references:
            images = self.images("validation", source.contract)
            if source.file is None:
                found = reference_logits(source.load(), images)
            else:
                form = format_for(source.file.format)
                artifact = form.open(source.file.path, self.target).artifact
                found = in_child(f"running {source.label}", CONVERSION, run_all, form, artifact, images, None)
            self._references = {source.key: found}
        return self._references[source.key]

    @cached_property
    def source_side(self) -> int:
        """Median shorter side of a few training images, in pixels: what resolutions make sense. Raises InputError where
        there are none."""
        sides = sorted(min(self.dataset.images[int(i)].shape[:2]) for i in self.dataset.splits.train[:32])
        if not sides:
            raise InputError("the training split is empty")
        return int(sides[len(sides) // 2])

    @cached_property
    def data_key(self) -> dict[str, Any]:
        """What identifies the data and its splits in the keys of stages."""
        splits = {name: digest(getattr(self.dataset.splits, name).tolist()) for name in ("train", "validation")}
        return {"fingerprint": self.dataset.fingerprint, "splits": splits}

    @property
    def schemes(self) -> tuple[QuantScheme, ...]:
        """The precisions to try, widest first: that one is what the others are compared with."""
        wanted = self.export.precisions or self.target.precisions
        count = self.export.calibration_images
        return tuple(
            QuantScheme(precision=p, calibration_images=count if p is Precision.INT8 else 0)
            for p in Precision
            if p in wanted
        )

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that are made: the target's own first."""
        wanted = self.export.formats or self.target.formats
        return (self.target.runtime, *(f for f in wanted if f is not self.target.runtime))


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
        if self.config.train.recipe == DEFAULT and not self.config.train.terms:
            return self.dataset
        return self.dataset if self.recipe.taps else self.dataset.labelled

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


@dataclass(frozen=True, eq=False)
class Data:
    """A data set with the mean and standard deviation of its training images' channels, in 0..255."""

    dataset: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
