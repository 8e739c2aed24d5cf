"""What students of a teacher's vectors come to: the same epochs by each recipe, in paired seeds, and their files.

    python benchmarks/embedding.py BUILD.toml --student mobilenetv4,0.5,0.5,96 --json FILE [--recipes clip_kd,vectors,...]
                                   [--seeds 3] [--jobs 1] [--formats onnx,tensorrt,coreml,litert,executorch]

`benchmarks/clip_art_embedding.toml` is a build file for it. Any other of a build with `task = "embedding"` will do whose
images have labels.

Trains the student named by family, width, depth and resolution once a seed by each recipe, for the last rung's epochs. Of
its fp32 torch program, and of the teacher beside it, on the test split: `knn`, the accuracy of a vote of the 20 nearest
images of the training split; `probe`, that of a logistic regression on the vectors of the training split, its strength
chosen on the validation split; `recall`, of the nearest other test image; `cosine`, the mean to the teacher's vectors.
Differences to the first recipe are in points, with their 95% interval by Student's t.

Of the first recipe's first student every format and precision is then made: the cosine to the fp32 program, and recall on
the validation split, which tells what int8 loses. Rows are written to FILE as they come; a second start goes on from there.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from torch import nn
from trainings import Row, Rows, interval, listen, parse_student, shown

from edgedistill.base.errors import EdgedistillError
from edgedistill.base.store import Store
from edgedistill.data.prepared import prepared
from edgedistill.distill.evaluate import outputs_of
from edgedistill.distill.train import load_student
from edgedistill.documents.artifacts import Verified
from edgedistill.documents.build_file import load_config
from edgedistill.documents.recipes import RECIPES
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme
from edgedistill.documents.targets import load_target
from edgedistill.formats import SHIPPED
from edgedistill.networks.tasks import NEIGHBOURS, cosines, nearest_classes, unit
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.judge import made
from edgedistill.pipeline.prepare import open_bench, open_store
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.train import source_of, train
from edgedistill.pipeline.workbench import Workbench
from edgedistill.pipeline.workers import Processes
from edgedistill.pipeline.working import keep_copies

TEACHER = "teacher"
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
"""Of the probe, as scikit-learn's C: vectors of length 1 have small numbers."""
FIGURES = ("knn", "probe", "recall")
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
Vectors = dict[str, NDArray[np.float32]]


def vectors_of(bench: Workbench, module: nn.Module, contract: Contract) -> Vectors:
    """Of a module, by split: float32 [n, D], of the labelled images in their order."""
    dataset, found = bench.dataset.labelled, {}
    for split in ("train", "validation", "test"):
        images = prepared(dataset, getattr(dataset.splits, split), contract)
        found[split] = unit(outputs_of(module, images))
    return found


def figures(bench: Workbench, vectors: Vectors, teacher: Vectors) -> Row:
    """What vectors come to on the test split."""
    dataset = bench.dataset.labelled
    train, validation, test = (dataset.labels[getattr(dataset.splits, s)] for s in ("train", "validation", "test"))
    fitted = [LogisticRegression(C=c, max_iter=1000).fit(vectors["train"], train) for c in STRENGTHS]
    best = max(fitted, key=lambda one: one.score(vectors["validation"], validation))
    voted = nearest_classes(vectors["test"], test, vectors["train"], train, NEIGHBOURS)
    nearest = nearest_classes(vectors["test"], test, vectors["test"], test, 1, own=True)
    return {
        "knn": float((voted == test).mean()),
        "probe": float(best.score(vectors["test"], test)),
        "recall": float((nearest == test).mean()),
        "cosine": float(cosines(vectors["test"], teacher["test"]).mean()),
    }


def file_row(bench: Workbench, source: Source, form: Format, precision: Precision) -> Row:
    """A file of the student: how near it is to the fp32 program, and its recall; or why there is none."""
    images = bench.export.calibration_images if precision is Precision.INT8 else 0
    row: dict[str, Any] = {"recipe": f"{form} {precision}", "seed": -1}
    try:
        result = made(bench, source, QuantScheme(precision=precision, calibration_images=images), form)
    except EdgedistillError as error:
        return row | {"problem": f"{error.message} {'; '.join(map(str, error.problems))}".strip()}
    ran, stand_in = result.verification, result.stand_in
    row |= {"bytes": result.artifact.bytes}
    if isinstance(ran, Verified):
        parity = ran.parity.model_dump(include={"cosine_mean", "cosine_least", "max_abs_error", "images"})
        # An interpreter runs the first images alone, of which recall is another one.
        reference, truth = bench.reference(source)[: ran.parity.images], bench.truth("validation")[: ran.parity.images]
        recall = {"recall_program": float(bench.task.right(reference, truth).mean())}
        return row | recall | {"recall_validation": ran.quality_validation, "computed_by": ran.computed_by, **parity}
    return row | {"not_run": ran.reason, "stand_in_recall": stand_in.quality_validation if stand_in else None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = [name for name, recipe in RECIPES.items() if recipe.task == "embedding"]
    parser.add_argument("build", type=Path)
    parser.add_argument("--student", type=parse_student, required=True)
    parser.add_argument("--recipes", default=",".join(named))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--formats", default=",".join(SHIPPED))
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    recipes = arguments.recipes.split(",")
    if unknown := [name for name in recipes if name not in named]:
        parser.error(f"no such recipe: {', '.join(unknown)}; there are {', '.join(named)}")
    config, spec = load_config(arguments.build), arguments.student
    if config.task != "embedding":
        parser.error('the build file is for classification; write task = "embedding"')
    target = load_target("host").model_copy(update={"formats": SHIPPED})
    base = arguments.build.parent.absolute()
    bench = open_bench(config, target, Store(listener=listen), base=base, require_measured=False)
    contract, epochs = bench.contract_of(spec), bench.rungs[-1]
    rows = Rows.open(arguments.json, ("recipe", "seed"), {"student": spec.label, "epochs": epochs})
    keep_copies(bench)
    teacher = open_teacher(bench)
    theirs = vectors_of(bench, teacher.module, teacher.contract)
    if not rows.have(TEACHER, 0):
        rows.add([{"recipe": TEACHER, "seed": 0} | figures(bench, theirs, theirs)])
    first: Source | None = None
    with Processes(arguments.jobs, listen) as bench.executor:
        for seed in range(arguments.seeds):
            for recipe in recipes:
                wanted = recipe == recipes[0] and seed == 0
                if rows.have(recipe, seed) and not wanted:
                    continue
                settings = config.train.model_copy(update={"recipe": recipe, "terms": (), "seed": seed})
                bench.config = config.model_copy(update={"train": settings})
                trained = train(bench, spec, open_store(bench), epochs=epochs, total_epochs=epochs, previous=None)
                first = source_of(bench, trained) if wanted else first
                if rows.have(recipe, seed):
                    continue
                found = figures(bench, vectors_of(bench, load_student(trained, contract), contract), theirs)
                row = {"recipe": recipe, "seed": seed, "recall_validation": trained.quality_validation, **found}
                rows.add([row])
    assert first is not None
    for form in map(Format, arguments.formats.split(",")):
        for precision in PRECISIONS:
            if not rows.have(f"{form} {precision}", -1):
                rows.add([file_row(bench, first, form, precision)])
    rows.write(
        data=bench.dataset.name,
        train_images=len(bench.dataset.splits.train),
        test_images=len(bench.dataset.splits.test),
        classes=len(bench.dataset.classes),
        teacher=teacher.name,
        dimension=contract.width,
        student_option=f"{spec.family},{spec.width:g},{spec.depth:g},{spec.resolution}",
        compared=_compared(rows, recipes),
    )
    return 0


def _compared(rows: Rows, recipes: list[str]) -> list[Row]:
    """Each recipe's means, and its differences to the first one in points; printed too."""
    table = []
    for recipe in (TEACHER, *recipes):
        own = {row["seed"]: row for row in rows if row["recipe"] == recipe}
        first = {row["seed"]: row for row in rows if row["recipe"] == recipes[0]}
        found: Row = {"recipe": recipe, "seeds": len(own)}
        for figure in FIGURES:
            mean = statistics.fmean(row[figure] for row in own.values())
            found[figure] = mean
            text = f"{recipe:12} {figure:7} {mean:.2%}"
            if recipe not in (TEACHER, recipes[0]):
                pairs = sorted(own.keys() & first.keys())
                points, half = interval([100 * (own[seed][figure] - first[seed][figure]) for seed in pairs])
                found |= {f"{figure}_points": points, f"{figure}_half_width_points": half}
                text += f"   {shown(points, half, f'points to {recipes[0]}')}"
            print(text)
        table.append(found)
    return table


if __name__ == "__main__":
    sys.exit(main())
