"""What each recipe gains over labels alone, in paired seeds, with intervals.

    python benchmarks/recipes.py /usr/share/datasets/fashion-mnist --labels 600 --work DIR --json FILE
                                 [--teacher fitted|pretrained|crossfit] [--weights lite0.pth] [--only kd,dist] [--seeds 5]
                                 [--steps 4000] [--jobs 2]

Fashion-MNIST, `--labels` of the training images with their labels, stratified; the others are unlabelled. One student, the
same steps, batches and augmentation for all. `fitted` is a teacher that was fitted to the labels of all training images,
`pretrained` one with ImageNet weights (`--weights`, of timm's efficientnet_lite0) that was fine-tuned on the same labels as
the student has, `crossfit` two that were each fitted to one half of all training images and label the other.

Beside the recipes stand controls: labels alone, with label smoothing, with images blended as `funmatch` has them, and
`permuted`: `kd` with each image's outputs taken from another image of the same class, which keeps what a teacher says of a
class and loses what it says of an image.

Each condition gets the same tuning: RATES of learning on the first seed, chosen on the validation split. Then SEEDS seeds
with the chosen rate. Test accuracy is told once, at the end: the mean, the mean of the paired differences to labels alone,
and its 95% interval by Student's t. Runs are written to FILE as they end; a second start goes on from there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from edgedistill.base.progress import Event, Note, StageFinished, silent
from edgedistill.base.store import Store
from edgedistill.data.datasets import UNLABELLED, Dataset, load_dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract
from edgedistill.data.sources import Indices
from edgedistill.data.splits import limited
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.fit_teacher import fit_teacher
from edgedistill.distill.loop import Stretch
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.load import load_teacher
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Crossfit, Teacher, folds_of
from edgedistill.distill.train import Lessons, load_student, train_student
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, FitConfig, TeacherConfig, TrainConfig
from edgedistill.documents.recipes import FEATURES, LOGITS, RECIPES
from edgedistill.documents.specs import StudentSpec

STUDENT = StudentSpec(family="resnet", width=0.25, depth=0.5, resolution=28)
BATCH = 128
VIEWS = 10
LABELLED_VIEWS = 64
"""Views of each image where labels alone are learnt: few images come by often."""
RATES = (2e-3, 4e-3, 8e-3)
SEEDS = 5
CONTROLS = ("labels", "label_smoothing", "labels_mixed", "permuted")
ALONE = ("labels", "label_smoothing", "labels_mixed")
AUGMENTATION = AugmentationConfig(views=VIEWS, scale=(0.7, 1.0), operations=1, magnitude=0.3)
FITS = {
    "fitted": FitConfig(epochs=12, learning_rate=2e-3),
    "crossfit": FitConfig(epochs=12, learning_rate=2e-3),
    "pretrained": FitConfig(epochs=40, batch_size=32, learning_rate=5e-4),
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Permuted(SplitStore):
    """Each image's logits are those of image `partners` [n] in the same view index: another of its class."""

    partners: Indices | None = None

    def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
        assert self.partners is not None
        return super().teacher(epoch, self.partners[positions])


def open_data(folder: Path, labels: int) -> tuple[Dataset, Dataset]:
    """All training images with their labels, and the same with `labels` of them alone."""
    whole = load_dataset(DataConfig(source="idx", path=folder))
    train = whole.splits.train
    known = limited(train, whole.labels, labels, seed=0)
    few = np.full_like(whole.labels, UNLABELLED)
    kept = np.concatenate([known, whole.splits.validation, whole.splits.test])
    few[kept] = whole.labels[kept]
    return whole, replace(whole, labels=few, fingerprint=f"{whole.fingerprint} {labels}")


def open_teacher(
    kind: str, whole: Dataset, few: Dataset, weights: Path | None, work: Path, fold: NDArray[np.bool_] | None = None
) -> Teacher:
    """That of `kind`, or for a fold one that was fitted to the images of the others."""
    fit, data = FITS[kind], DataConfig()
    if kind != "pretrained":
        config, taught = TeacherConfig(model="timm:resnet10t", resolution=28, fit=fit), whole
    else:
        if weights is None:
            raise SystemExit("--teacher pretrained needs --weights")
        config, taught = (
            TeacherConfig(
                model="timm:efficientnet_lite0",
                checkpoint=weights,
                resolution=96,
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
                fit=fit,
            ),
            few.labelled,
        )
    teacher = load_teacher(config, whole, data, work)
    name = "pretrained" if kind == "pretrained" else "fitted"
    if fold is not None:
        train = whole.splits.train
        taught = replace(whole, splits=replace(whole.splits, train=train[~fold]))
        name = f"without-{int(fold[0])}"
    folder = work / f"teacher-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    return fit_teacher(teacher, fit, taught, AUGMENTATION, TrainConfig(), folder, listen)


def partners_of(dataset: Dataset, stored: SplitStore) -> Indices:
    """Another image of the same class for each, by the teacher's own classes on the first view, in a drawn cycle."""
    everyone = np.arange(len(dataset.splits.train), dtype=np.int64)
    classes = stored.teacher(0, everyone)[LOGITS].argmax(axis=1)
    partners = everyone.copy()
    rng = np.random.default_rng(0)
    for one in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == one))
        partners[members] = np.roll(members, 1)
    return partners


@dataclass(eq=False)
class Bench:
    """One student under one condition at a time. `taught` and `alone` are what is learnt from with a teacher and without, by
    whether images are blended."""

    few: Dataset
    taught: dict[bool, SplitStore]
    alone: dict[bool, SplitStore]
    partners: Indices
    steps: int

    def run(self, condition: str, rate: float, seed: int) -> Row:
        """Train a student; its accuracy on both splits."""
        alone = condition in ALONE
        recipe = {"permuted": "kd", "labels_mixed": "labels"}.get(condition, condition)
        data = self.few.labelled if alone else self.few
        stored = (self.alone if alone else self.taught)[condition == "labels_mixed" or bool(RECIPES[recipe].mix)]
        if condition == "permuted":
            stored = Permuted(stored.stored_views, stored.signals, partners=self.partners)
        config = TrainConfig(recipe=recipe, batch_size=BATCH, learning_rate=rate, seed=seed, workers=0)
        mean, std = channel_statistics(self.few)
        contract = make_contract(DataConfig(), data.classes, STUDENT.resolution, mean, std)
        lessons = Lessons(data, config, stored)
        epochs = round(self.steps / lessons.batches(contract).steps_per_epoch)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            trained = train_student(STUDENT, contract, lessons, Stretch(epochs, Path(folder)), epochs)
            module = load_student(trained, contract)
        return {
            "condition": condition,
            "rate": rate,
            "seed": seed,
            "epochs": epochs,
            "validation": trained.quality_validation,
            "test": split_quality(module, data, data.splits.test, contract),
            "seconds": round(time.monotonic() - began, 1),
        }


def compared(rows: list[Row], conditions: list[str]) -> list[Row]:
    """By condition: the rate that validation chose, the mean test accuracy, and the paired difference to labels alone."""
    found = []
    chosen = {condition: chosen_rate(rows, condition) for condition in conditions}
    base = {r["seed"]: r["test"] for r in rows if r["condition"] == "labels" and r["rate"] == chosen["labels"]}
    for condition, rate in chosen.items():
        own = {r["seed"]: r["test"] for r in rows if r["condition"] == condition and r["rate"] == rate}
        seeds = sorted(own.keys() & base.keys())
        differences = [100 * (own[seed] - base[seed]) for seed in seeds]
        half = None
        if len(seeds) > 1:
            spread = statistics.stdev(differences) / len(seeds) ** 0.5
            half = float(stats.t.ppf(0.975, len(seeds) - 1)) * spread
        found.append(
            {
                "condition": condition,
                "rate": rate,
                "seeds": len(seeds),
                "test_mean": statistics.fmean(own.values()),
                "gain_points": statistics.fmean(differences) if seeds else None,
                "half_width_points": half,
            }
        )
    return found


def chosen_rate(rows: list[Row], condition: str) -> float:
    first = [r for r in rows if r["condition"] == condition and r["seed"] == 0]
    return float(max(first, key=lambda r: r["validation"])["rate"])


def open_bench(store: Store, teacher: Teacher, crossfit: Crossfit | None, few: Dataset, steps: int) -> Bench:
    """With all that the conditions learn from, labelled."""
    own_views = LABELLED_VIEWS if len(few.labelled.splits.train) < 5000 else VIEWS
    taught, alone = {}, {}
    for mixed in (False, True):
        augmentation = AUGMENTATION.model_copy(update={"mix": float(mixed)})
        views = stored_views(store, few, augmentation)
        taps = (LOGITS,) if mixed else (LOGITS, FEATURES)
        labellers = (Labeller(teacher, few, views, tap, crossfit=crossfit) for tap in taps)
        taught[mixed] = SplitStore(views, tuple(Labelling(store, labeller, silent).build() for labeller in labellers))
        own = augmentation.model_copy(update={"views": own_views})
        alone[mixed] = SplitStore(stored_views(store, few.labelled, own))
    return Bench(few, taught, alone, partners_of(few, taught[False]), steps)


_bench: list[Bench] = []


def _begin(bench: Bench) -> None:
    torch.set_num_threads(1)
    _bench.append(bench)


def _run(condition: str, rate: float, seed: int) -> Row:
    return _bench[0].run(condition, rate, seed)


def listen(event: Event) -> None:
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)
    if isinstance(event, StageFinished) and not event.reused:
        print(f"{event.stage} {event.subject}: {event.seconds:.0f} s", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", type=int, default=600)
    parser.add_argument("--teacher", choices=tuple(FITS), default="fitted")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    whole, few = open_data(arguments.data, arguments.labels)
    teacher = open_teacher(arguments.teacher, whole, few, arguments.weights, arguments.work)
    crossfit = None
    if arguments.teacher == "crossfit":
        folds = folds_of(few, 2, seed=0)
        others = [open_teacher("crossfit", whole, few, None, arguments.work, folds == fold) for fold in (0, 1)]
        crossfit = Crossfit(tuple(others), folds)
    bench = open_bench(Store(arguments.work / "cache", listen), teacher, crossfit, few, arguments.steps)
    document: Row = {"rows": []}
    if arguments.json.is_file():
        document = json.loads(arguments.json.read_text())
    module = teacher.module
    document |= {
        "labels": arguments.labels,
        "teacher": arguments.teacher,
        "student": STUDENT.label,
        "steps": arguments.steps,
        "teacher_test": split_quality(module, whole, whole.splits.test, teacher.contract),
    }
    rows: list[Row] = document["rows"]
    conditions = arguments.only.split(",") if arguments.only else list(dict.fromkeys([*CONTROLS, *RECIPES]))

    def do(wanted: list[tuple[str, float, int]]) -> None:
        """Those of them that are not done yet."""
        known = {(row["condition"], row["rate"], row["seed"]) for row in rows}
        for future in as_completed([pool.submit(_run, *one) for one in wanted if one not in known]):
            rows.append(future.result())
            print(json.dumps(rows[-1]), flush=True)
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")

    context = get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context, initializer=_begin, initargs=(bench,)) as pool:
        do([(condition, rate, 0) for condition in conditions for rate in RATES])
        for seed in range(1, arguments.seeds):
            do([(condition, chosen_rate(rows, condition), seed) for condition in conditions])
    document["compared"] = compared(rows, conditions)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    for row in document["compared"]:
        half = "" if row["half_width_points"] is None else f" +- {row['half_width_points']:.2f}"
        print(f"{row['condition']:16} {row['test_mean']:.2%}  {row['gain_points']:+.2f}{half} points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
