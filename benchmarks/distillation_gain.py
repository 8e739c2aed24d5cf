"""What a build's teacher gives one of its students: the same epochs by each recipe, in paired seeds.

    python benchmarks/distillation_gain.py BUILD.toml (--out BUILD_FOLDER | --student resnet,0.1875,0.5,16) --json FILE
                                           [--recipes labels,kd] [--seeds 5] [--jobs 1]

Takes the student that the finished build in BUILD_FOLDER chose, or the one named by family, width, depth and resolution, and
trains it once a seed by each recipe for the last rung's epochs, all else as the build file has it. Accuracy is the fp32
torch program's, on the validation split that the build decides by and on the test split; differences to the first recipe
are in points of the test split, with their 95% interval by Student's t. What `default` takes is found as in a build, with
this student in its pilot. Teacher and stored views are the build's own, found in its cache or made. Runs are written to
FILE as they end; a second start goes on from there.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

from trainings import Rows, interval, listen, parse_student, shown

from edgedistill.base.store import Store
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.train import load_student
from edgedistill.documents.build_file import load_config
from edgedistill.documents.recipes import DEFAULT, RECIPES
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


def chosen_student(out: Path) -> StudentSpec:
    """The student that a finished build chose."""
    chosen = BuildResult.model_validate_json((out / "build.json").read_text()).student
    if chosen is None:
        raise SystemExit(f"the build in {out} chose no student")
    return chosen.spec


def default_of(bench: Workbench, spec: StudentSpec) -> RecipeChoice:
    """What a build without a recipe of its own would take, with the student in its pilot."""
    teacher = open_teacher(bench)
    quality = split_quality(teacher.module, bench.dataset, bench.dataset.splits.validation, teacher.contract)
    contract = bench.contract_of(spec)
    candidate = Candidate(spec=spec, structure=structure_of(build_student(spec, contract).eval(), spec.resolution))
    by_default = bench.config.train.model_copy(update={"recipe": DEFAULT, "terms": ()})
    bench.config = bench.config.model_copy(update={"train": by_default})
    return settle([bench], teacher, quality, [candidate], math.inf)[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path)
    which.add_argument("--student", type=parse_student)
    parser.add_argument("--recipes", default="labels,kd")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    recipes = arguments.recipes.split(",")
    if unknown := [name for name in recipes if name not in RECIPES]:
        parser.error(f"no such recipe: {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    config = load_config(arguments.build)
    spec = arguments.student or chosen_student(arguments.out)
    base = arguments.build.parent.absolute()
    bench = open_bench(config, load_target("host"), Store(listener=listen), base=base, require_measured=False)
    contract, epochs, test = bench.contract_of(spec), bench.rungs[-1], bench.dataset.splits.test
    rows = Rows.open(arguments.json, ("recipe", "seed"), {"student": spec.label, "epochs": epochs})
    with Processes(arguments.jobs, listen) as bench.executor:
        keep_copies(bench)
        for seed in range(arguments.seeds):
            for recipe in (name for name in recipes if not rows.have(name, seed)):
                settings = config.train.model_copy(update={"recipe": recipe, "terms": (), "seed": seed})
                bench.config = config.model_copy(update={"train": settings})
                stored = open_store(bench)
                began = time.monotonic()
                trained = train(bench, spec, stored, epochs=epochs, total_epochs=epochs, previous=None)
                found = split_quality(load_student(trained, contract), bench.dataset, test, contract)
                row = {"recipe": recipe, "seed": seed, "validation": trained.quality_validation, "test": found}
                rows.add([row | {"seconds": round(time.monotonic() - began, 1)}])
        bench.config = config
        default = default_of(bench, spec)
    table = []
    first = {row["seed"]: row["test"] for row in rows if row["recipe"] == recipes[0]}
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = {row["seed"]: row["test"] for row in rows if row["recipe"] == recipe}
        points, half = interval([100 * (own[seed] - first[seed]) for seed in sorted(own.keys() & first.keys())])
        mean = statistics.fmean(own.values())
        table.append(
            {"recipe": recipe, "seeds": len(own), "test_mean": mean, "points": points, "half_width_points": half}
        )
        print(f"{recipe:16} {mean:.2%}   {shown(points, half, f'points to {recipes[0]}')}")
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
