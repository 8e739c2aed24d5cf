"""What a worker process of distillation_gain.py does: a teacher with all that students learn from, and students."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainings import Here, Row, listen, parse_student

from edgedistill.base.store import Store
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import Statistics, channel_statistics, remember_statistics
from edgedistill.data.working import working_side
from edgedistill.distill.evaluate import outputs_of, split_quality
from edgedistill.distill.train import load_student
from edgedistill.documents.build_file import BuildConfig, SpaceConfig, SplitConfig
from edgedistill.documents.recipes import DEFAULT
from edgedistill.documents.specs import StudentSpec
from edgedistill.documents.targets import load_target
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.networks.build import build_student
from edgedistill.networks.counting import structure_of
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.bench import Data
from edgedistill.pipeline.choice import has_features, look, settle
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.prepare import open_store
from edgedistill.pipeline.pretrained import require_starts, settle_space
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.train import train
from edgedistill.pipeline.workbench import Workbench
from edgedistill.pipeline.working import keep_copies

RANDOM = ",random"
Rate = float | Literal["auto"]


@dataclass(frozen=True)
class Student:
    """A student as it is named on the command line: from random weights, or from those that the build file gives it."""

    name: str

    @property
    def spec(self) -> StudentSpec:
        return parse_student(self.name.removesuffix(RANDOM))

    def space(self, space: SpaceConfig) -> SpaceConfig:
        """The build file's `space` with the weights that it starts from."""
        if not self.name.endswith(RANDOM):
            return space
        return space.model_copy(update={"checkpoints": {}, "pretrained": False})


@dataclass(frozen=True)
class Training:
    """What is learnt by a student, a row each."""

    recipe: str
    rate: Rate
    seed: int


@dataclass(frozen=True)
class Prepared:
    """A `draw` is the seed of splits and teacher, None for those of the build file. `statistics` are of its training images,
    `teacher` is the teacher's accuracy on its validation split: each takes a while to find."""

    draw: int | None
    statistics: tuple[Statistics, Statistics]
    teacher: float


@dataclass(eq=False)
class Gain:
    """A worker's jobs: to prepare a draw, and to train a student in several ways on one that is prepared."""

    config: BuildConfig
    base: Path
    test: float | None
    students: Sequence[Student]
    recipes: Sequence[str]
    _opened: tuple[int | None, Workbench, BuildConfig] | None = None

    def begin(self) -> None:
        """Nothing is needed before the first job."""

    def run(self, draw: Prepared | int | None, *job: Student | Training) -> list[Row]:
        """Of a job without a student what `prepare` gives, else a row for each training."""
        if not isinstance(draw, Prepared):
            return [self.prepare(draw)]
        student, *trainings = job
        assert isinstance(student, Student)
        return [self.learn(draw, student, one) for one in trainings if isinstance(one, Training)]

    def prepare(self, draw: int | None) -> Row:
        """Have the teacher and all that the recipes learn from in the cache, so that no two processes make the same."""
        bench = self.bench(draw)
        splits, labelled = bench.dataset.splits, len(bench.dataset.labelled.splits.train)
        facts = {
            "data": bench.dataset.name,
            "classes": len(bench.dataset.classes),
            "epochs": bench.rungs[-1],
            "rungs": list(bench.rungs),
            "train_images": labelled,
            "test_images": len(splits.test),
        }
        for student in self.students:
            require_usable(self.learning(bench, student, Training(DEFAULT, "auto", 0)), student.spec)
        teacher = open_teacher(bench)
        found = {
            name: split_quality(teacher.module, bench.dataset, indices, teacher.contract)
            for name, indices in (("validation", splits.validation), ("test", splits.test))
        }
        for recipe in self.recipes:
            self.learning(bench, self.students[0], Training(recipe, "auto", 0))
            if recipe == DEFAULT:
                look([bench], has_features(bench.config.teacher, teacher))
            else:
                open_store(bench)
        prepared = Prepared(draw, (bench.mean, bench.std), found["validation"])
        told = {"seed": draw, "unlabelled_images": len(splits.train) - labelled, **found}
        return {"facts": facts, "teacher": told, "prepared": prepared}

    def learn(self, prepared: Prepared, student: Student, training: Training) -> Row:
        """Train it; a row with its accuracy on both splits."""
        bench = self.learning(self.bench(prepared.draw, prepared.statistics), student, training)
        spec, contract = student.spec, bench.contract_of(student.spec)
        row: Row = {"student": student.name, "recipe": training.recipe, "rate": training.rate, "seed": training.seed}
        if training.recipe == DEFAULT:
            structure = structure_of(build_student(spec, contract).eval(), spec.resolution)
            alone = [Candidate(spec=spec, structure=structure)]
            stored, choice = settle([bench], open_teacher(bench), prepared.teacher, alone, math.inf)
            row |= {"took": choice.recipe, "reasons": list(choice.reasons)}
        else:
            stored = open_store(bench)
        epochs = bench.rungs[-1]
        trained = train(bench, spec, stored, epochs=epochs, total_epochs=epochs, previous=None)
        outputs = outputs_of(load_student(trained, contract), bench.images("test", contract))
        row |= {"validation": trained.quality_validation, "test": bench.task.score(outputs, bench.labels("test"))}
        return row | {"train_seconds": round(trained.train_seconds, 1)}

    def learning(self, bench: Workbench, student: Student, training: Training) -> Workbench:
        """`bench`, set to a training of a student."""
        assert self._opened is not None
        config = self._opened[-1]
        changed = {"recipe": training.recipe, "terms": (), "seed": training.seed, "learning_rate": training.rate}
        bench.space = student.space(config.space)
        taught = config.train.model_copy(update=changed)
        bench.config = config.model_copy(update={"train": taught, "space": bench.space})
        return bench

    def bench(self, draw: int | None, statistics: tuple[Statistics, Statistics] | None = None) -> Workbench:
        """That of a draw, as the build file has it. A process keeps its last one."""
        if self._opened is None or self._opened[0] != draw:
            config, target = self.config_of(draw), load_target("host")
            dataset = load_dataset(config.data, listen)
            if statistics is not None:
                remember_statistics(dataset, statistics)
            data, meter = Data(dataset, *channel_statistics(dataset, listen)), Meter(target, None, "it only trains")
            bench = Workbench.of(config, target, data, Store(listener=listen), meter, self.base)
            bench.executor = Here(bench)
            settle_space([bench])
            keep_copies(bench)
            self._opened = draw, bench, bench.config
        return self._opened[1]

    def draw(self, seed: int) -> int | None:
        """That of a seed."""
        return None if self.test is None else seed

    def config_of(self, draw: int | None) -> BuildConfig:
        """The build file for a draw, and for a process that has one thread."""
        config = self.config
        alone = config.train.model_copy(update={"workers": 0, "threads": 1})
        config = config.model_copy(update={"train": alone})
        if draw is None or self.test is None:
            return config
        split = SplitConfig(seed=draw, validation=config.data.split.validation, test=self.test)
        changed = {
            "data": config.data.model_copy(update={"split": split}),
            "teacher": seeded(config.teacher, draw),
            "teachers": tuple(seeded(teacher, draw) for teacher in config.teachers),
        }
        return config.model_copy(update=changed)


def seeded(teacher: TeacherConfig, seed: int) -> TeacherConfig:
    """The teacher, fitted with that seed where it is fitted."""
    if teacher.fit is None:
        return teacher
    return teacher.model_copy(update={"fit": teacher.fit.model_copy(update={"seed": seed})})


def require_usable(bench: Workbench, spec: StudentSpec) -> None:
    """See that a student can be built and can start from its weights, before the teacher is made. Raises InputError. Ends
    the program for a student that sees more pixels than views have, which are made for the build file's space."""
    if bench.working_side is not None and working_side(spec.resolution, bench.config.augmentation) > bench.working_side:
        raise SystemExit(
            f"{spec.label} sees larger images than the build's own: add {spec.resolution} to its resolutions"
        )
    structure = structure_of(build_student(spec, bench.contract_of(spec)).eval(), spec.resolution)
    require_starts(bench, [Candidate(spec=spec, structure=structure)])
