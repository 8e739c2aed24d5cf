"""What a build's teacher gives its students: the same epochs by each recipe, in paired seeds.

    python benchmarks/distillation_gain.py BUILD.toml (--out BUILD_FOLDER | --students resnet,0.1875,0.5,16 ...) --json FILE
                                           [--recipes labels,kd] [--rates auto] [--seeds 5] [--jobs 1]

Takes the student that the finished build in BUILD_FOLDER chose, or those named by family, width, depth and resolution.
Each is trained by each recipe for the last rung's epochs, all else as the build file has it. One that the build file gives
weights starts from them; with `,random` behind its resolution it does not. Each of `--rates` is tried with seed 0, and the
one that is best on the validation split takes the other seeds: every recipe has the same trials.

Accuracy is the fp32 torch program's, on the validation split that the build decides by and on the test split. Differences to
the first recipe are in points of the test split, by pairs of a seed, with their 95% interval by Student's t. What `default`
takes is found as in a build, with the first student in its pilot. Teacher and stored views are the build's own, found in its
cache or made. Runs are written to FILE as they end; a second start goes on from there.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainings import Row, Rows, interval, listen, parse_student, shown

from edgedistill.base.store import Store
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.train import load_student
from edgedistill.documents.build_file import BuildConfig, load_config
from edgedistill.documents.recipes import DEFAULT, OF_CLASSES
from edgedistill.documents.results import BuildResult, RecipeChoice
from edgedistill.documents.specs import StudentSpec
from edgedistill.documents.targets import load_target
from edgedistill.networks.build import build_student
from edgedistill.networks.counting import structure_of
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.bench import Workbench
from edgedistill.pipeline.choice import settle
from edgedistill.pipeline.prepare import open_bench, open_store
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.train import train
from edgedistill.pipeline.workers import Processes
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

    def config(self, config: BuildConfig) -> BuildConfig:
        """The build file for it."""
        if not self.name.endswith(RANDOM):
            return config
        space = config.space.model_copy(update={"checkpoints": {}, "pretrained": False})
        return config.model_copy(update={"space": space})


@dataclass(frozen=True, eq=False)
class Runs:
    """The trainings of a benchmark, each a row."""

    bench: Workbench
    config: BuildConfig
    rows: Rows

    def have(self, student: Student, recipe: str, rate: Rate, seed: int) -> None:
        """Train it, unless there is a row of it."""
        if self.rows.have(student.name, recipe, rate, seed):
            return
        bench, config, spec = self.bench, student.config(self.config), student.spec
        changed = {"recipe": recipe, "terms": (), "seed": seed, "learning_rate": rate}
        bench.config = config.model_copy(update={"train": config.train.model_copy(update=changed)})
        bench.space, epochs = config.space, bench.rungs[-1]
        stored, began = open_store(bench), time.monotonic()
        trained = train(bench, spec, stored, epochs=epochs, total_epochs=epochs, previous=None)
        contract, test = bench.contract_of(spec), bench.dataset.splits.test
        found = split_quality(load_student(trained, contract), bench.dataset, test, contract)
        row = {"student": student.name, "recipe": recipe, "rate": rate, "seed": seed}
        row |= {"validation": trained.quality_validation, "test": found}
        self.rows.add([row | {"seconds": round(time.monotonic() - began, 1)}])

    def chosen_rate(self, student: Student, recipe: str) -> Rate:
        """The rate that is best on the validation split with seed 0."""
        tried = [row for row in self.rows if (row["student"], row["recipe"], row["seed"]) == (student.name, recipe, 0)]
        rate: Rate = max(tried, key=lambda row: row["validation"])["rate"]
        return rate

    def compared(self, student: Student, recipes: list[str]) -> list[Row]:
        """Of each recipe its mean, and its difference to the first one."""
        own = {
            recipe: {
                row["seed"]: row["test"]
                for row in self.rows
                if (row["student"], row["recipe"], row["rate"])
                == (student.name, recipe, self.chosen_rate(student, recipe))
            }
            for recipe in recipes
        }
        first, table = own[recipes[0]], []
        for recipe, tests in own.items():
            points, half = interval([100 * (tests[seed] - first[seed]) for seed in sorted(tests.keys() & first.keys())])
            mean = statistics.fmean(tests.values())
            row: Row = {"student": student.name, "recipe": recipe, "rate": self.chosen_rate(student, recipe)}
            table.append(row | {"seeds": len(tests), "test_mean": mean, "points": points, "half_width_points": half})
            print(f"{student.name:40} {recipe:16} {mean:.2%}   {shown(points, half, f'points to {recipes[0]}')}")
        return table


def chosen_student(out: Path) -> Student:
    """The student that a finished build chose."""
    chosen = BuildResult.model_validate_json((out / "build.json").read_text()).student
    if chosen is None:
        raise SystemExit(f"the build in {out} chose no student")
    spec = chosen.spec
    return Student(f"{spec.family},{spec.width:g},{spec.depth:g},{spec.resolution}")


def default_of(bench: Workbench, spec: StudentSpec) -> RecipeChoice:
    """What a build without a recipe of its own would take, with the student in its pilot."""
    teacher = open_teacher(bench)
    quality = split_quality(teacher.module, bench.dataset, bench.dataset.splits.validation, teacher.contract)
    contract = bench.contract_of(spec)
    candidate = Candidate(spec=spec, structure=structure_of(build_student(spec, contract).eval(), spec.resolution))
    by_default = bench.config.train.model_copy(update={"recipe": DEFAULT, "terms": ()})
    bench.config = bench.config.model_copy(update={"train": by_default})
    return settle([bench], teacher, quality, [candidate], math.inf)[1]


def rates_of(text: str) -> list[Rate]:
    """`auto`, or rates with a comma between."""
    return ["auto" if one == "auto" else float(one) for one in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path)
    which.add_argument("--students", type=Student, nargs="+")
    parser.add_argument("--recipes", default="labels,kd")
    parser.add_argument("--rates", type=rates_of, default=["auto"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    recipes = arguments.recipes.split(",")
    if unknown := [name for name in recipes if name not in OF_CLASSES]:
        parser.error(f"no such recipe: {', '.join(unknown)}; there are {', '.join(OF_CLASSES)}")
    config = load_config(arguments.build)
    students = arguments.students or [chosen_student(arguments.out)]
    base = arguments.build.parent.absolute()
    bench = open_bench(config, load_target("host"), Store(listener=listen), base=base, require_measured=False)
    test = bench.dataset.splits.test
    rows = Rows.open(arguments.json, ("student", "recipe", "rate", "seed"), {"epochs": bench.rungs[-1]})
    runs = Runs(bench, config, rows)
    with Processes(arguments.jobs, listen) as bench.executor:
        keep_copies(bench)
        for seed in range(arguments.seeds):
            for student in students:
                for recipe in recipes:
                    for rate in [runs.chosen_rate(student, recipe)] if seed else arguments.rates:
                        runs.have(student, recipe, rate, seed)
        bench.config = students[0].config(config)
        bench.space = bench.config.space
        default = default_of(bench, students[0].spec)
    table = [row for student in students for row in runs.compared(student, recipes)]
    print(f"default takes {default.recipe}: {'; '.join(default.reasons)}")
    teacher = bench.teacher
    rows.write(
        data=bench.dataset.name,
        train_images=len(bench.dataset.splits.train),
        test_images=len(test),
        classes=len(bench.dataset.classes),
        teacher=None if teacher is None else split_quality(teacher.module, bench.dataset, test, teacher.contract),
        default=default.model_dump(mode="json"),
        compared=table,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
