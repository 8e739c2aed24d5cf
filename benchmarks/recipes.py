"""What each recipe gains over labels alone, in paired seeds, with intervals.

    python benchmarks/recipes.py /usr/share/datasets/fashion-mnist --labels 600 --work DIR --json FILE
                                 [--teacher fitted|pretrained|crossfit] [--weights lite0.pth] [--only kd,dist] [--seeds 5]
                                 [--steps 3000] [--images N] [--against CONDITION] [--jobs 2]
                                 [--student resnet,0.125,0.5,16] [--rates 0.004,0.008,0.016] [--side 28]

Fashion-MNIST, or another folder of MNIST's format: `--labels` of the training images with their labels, stratified, the
others without. One student, the same steps, batches and augmentation for all. `fitted` is a teacher that was fitted to the
labels of all training images, `pretrained` one with ImageNet weights (`--weights`, of timm's efficientnet_lite0) that was
fine-tuned on the same labels as the student has, `crossfit` two that were each fitted to one half of all training images and
label the other. Those without weights see images of `--side` pixels: the same network is more accurate on larger ones.

Beside the recipes stand controls: labels alone, with label smoothing, with images blended as `funmatch` has them, and
`permuted`: `kd` with each image's outputs taken from another image of the same class, which keeps what a teacher says of a
class and loses what it says of an image.

Two kinds of conditions are run where `--only` names them. `kd_sure` is `kd` without those unlabelled images of which the
teacher is less sure than SURE (`[train] min_confidence`). `torchdistill_kd` and the other names of peer_losses.py are a
peer's own losses with the peer's own weights and temperatures, in the same training as ours; that module says what is whose.

Each condition gets the same tuning: `--rates` of learning on the first seed, chosen on the validation split. Then SEEDS
seeds with the chosen rate. Test accuracy is of every run, and no rate is chosen by it. Told are its mean, the mean of the
paired differences to labels alone and to the condition that `--against` names, and their 95% intervals by Student's t. Runs
are written to FILE as they end; a second start goes on from there, and compares all conditions that FILE has, whatever
`--only` asks for. What `default` would take is told beside, by the same rules as in a build: its pilot trains the student
for half of the steps, at the rate of its family.
`--images` takes so many training images alone, for a try.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import peer_losses
from numpy.typing import NDArray
from torch import nn
from trainings import Row, Rows, interval, listen, open_images, parse_student, shown, workers

from edgedistill.base.progress import silent
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract
from edgedistill.data.sources import UNLABELLED, Indices
from edgedistill.data.splits import limited
from edgedistill.distill.evaluate import split_quality, split_right
from edgedistill.distill.fit_teacher import fit_teacher
from edgedistill.distill.loop import Stretch
from edgedistill.distill.recipes.choice import Known, options_for
from edgedistill.distill.stored.filtering import filtered
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.load import load_teacher
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Crossfit, Teacher, folds_of
from edgedistill.distill.train import Lessons, load_student, train_student
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, TrainConfig
from edgedistill.documents.recipes import FEATURES, LOGITS, OF_CLASSES, RECIPES
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.documents.teachers import FitConfig, TeacherConfig
from edgedistill.pipeline.choice import best_recipe
from edgedistill.pipeline.pilot import Right

STUDENT = "resnet,0.125,0.5,16"
BATCH = 64
VIEWS = 4
LABELLED_VIEWS = 64
"""Views of each image where labels alone are learnt: few images come by often."""
SIDE = 28
RATES = (4e-3, 8e-3, 16e-3)
SEEDS = 5
CONTROLS = ("labels", "label_smoothing", "labels_mixed", "permuted")
SURE = "90%"
ALONE = ("labels", "label_smoothing", "labels_mixed")
AUGMENTATION = AugmentationConfig(views=VIEWS, scale=(0.7, 1.0), operations=1, magnitude=0.3)
_FIT = FitConfig(learning_rate=2e-3, layer_decay=1.0, head_first=False, keep="last")
FITS = {
    "fitted": _FIT.model_copy(update={"epochs": 12}),
    "crossfit": _FIT.model_copy(update={"epochs": 12}),
    "pretrained": _FIT.model_copy(update={"epochs": 20}),
}
"""`pretrained` was chosen on the validation split, of 10, 20 and 40 epochs at rates from 1e-4 to 4e-3."""


@dataclass(frozen=True)
class Permuted(SplitStore):
    """Each image's logits are those of image `partners` [n] in the same view index: another of its class."""

    partners: Indices | None = None

    def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
        assert self.partners is not None
        return super().teacher(epoch, self.partners[positions])


def open_data(folder: Path, labels: int, images: int | None) -> tuple[Dataset, Dataset]:
    """All training images, or so many, with their labels, and the same with `labels` of them alone."""
    whole = open_images(folder, images)
    train = whole.splits.train
    known = limited(train, whole.labels, labels, seed=0)
    few = np.full_like(whole.labels, UNLABELLED)
    kept = np.concatenate([known, whole.splits.validation, whole.splits.test])
    few[kept] = whole.labels[kept]
    return whole, replace(whole, labels=few, fingerprint=f"{whole.fingerprint} {labels}")


def open_teacher(
    kind: str,
    whole: Dataset,
    few: Dataset,
    weights: Path | None,
    work: Path,
    *,
    side: int = SIDE,
    fold: NDArray[np.bool_] | None = None,
) -> Teacher:
    """That of `kind`, or for a fold one that was fitted to the images of the others."""
    fit, data = FITS[kind], DataConfig()
    if kind != "pretrained":
        config, taught = TeacherConfig(model="timm:resnet10t", resolution=side, fit=fit), whole
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
    if kind != "pretrained" and side != SIDE:
        name += f"-{side}"
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
    whether images are blended. `sure` is the file of the images that `kd_sure` learns from. With `peer`, a peer's losses are
    conditions too."""

    student: StudentSpec
    few: Dataset
    taught: dict[bool, SplitStore]
    alone: dict[bool, SplitStore]
    partners: Indices
    sure: Path
    steps: int
    peer: bool = False

    def begin(self) -> None:
        """In a worker process: the peer's losses by name, where they are asked for."""
        if self.peer:
            peer_losses.register()

    def run(self, condition: str, rate: float, seed: int) -> list[Row]:
        """Train a student; its accuracy on both splits."""
        began = time.monotonic()
        trained, module, contract = self.train(condition, rate, seed, self.steps)
        row = {
            "condition": condition,
            "rate": rate,
            "seed": seed,
            "epochs": trained.epochs,
            "validation": trained.quality_validation,
            "test": split_quality(module, self.few, self.few.splits.test, contract),
            "seconds": round(time.monotonic() - began, 1),
        }
        return [row]

    def pilot(self, condition: str) -> Right:
        """Which images of the validation split a student answers rightly after half of the steps."""
        _, module, contract = self.train(condition, "auto", 0, self.steps / 2)
        return split_right(module, self.few, self.few.splits.validation, contract)

    def train(
        self, condition: str, rate: float | Literal["auto"], seed: int, steps: float
    ) -> tuple[TrainedStudent, nn.Module, Contract]:
        """The student, and its module."""
        alone = condition in ALONE
        recipe = {"permuted": "kd", "kd_sure": "kd", "labels_mixed": "labels"}.get(condition, condition)
        data = self.few.labelled if alone else self.few
        mixed = condition == "labels_mixed" or (recipe in RECIPES and bool(RECIPES[recipe].mix))
        stored = (self.alone if alone else self.taught)[mixed]
        if condition == "kd_sure":
            stored = replace(stored, kept=self.sure)
        if condition == "permuted":
            stored = Permuted(stored.stored_views, stored.signals, partners=self.partners)
        config = TrainConfig(batch_size=BATCH, learning_rate=rate, seed=seed, workers=0)
        if condition in peer_losses.SETTINGS:
            config = config.model_copy(update={"terms": peer_losses.terms_of(condition)})
        else:
            config = config.model_copy(update={"recipe": recipe})
        mean, std = channel_statistics(self.few)
        contract = make_contract(DataConfig(), data.classes, self.student.resolution, mean, std)
        lessons = Lessons(data, config, stored)
        epochs = max(1, round(steps / lessons.batches(contract).steps_per_epoch))
        with tempfile.TemporaryDirectory() as folder:
            trained = train_student(self.student, contract, lessons, Stretch(epochs, Path(folder)), epochs)
            return trained, load_student(trained, contract), contract


def compared(rows: Iterable[Row], against: str, rates: Sequence[float] = RATES) -> list[Row]:
    """By condition of `rows`: the rate that validation chose, the mean test accuracy, and the paired differences to labels
    alone (`gain`) and to the condition `against`; None where there are no pairs."""
    rows = [row for row in rows if tuned(rows, row["condition"], rates)]
    told: dict[str, dict[int, float]] = {}
    chosen = {condition: chosen_rate(rows, condition) for condition in dict.fromkeys(row["condition"] for row in rows)}
    for row in rows:
        if row["rate"] == chosen[row["condition"]]:
            told.setdefault(row["condition"], {})[row["seed"]] = row["test"]
    found = []
    for condition, own in told.items():
        row = {
            "condition": condition,
            "rate": chosen[condition],
            "seeds": len(own),
            "test_mean": statistics.fmean(own.values()),
        }
        for name, base in (("gain", told.get("labels", {})), ("against", told.get(against, {}))):
            mean, half = interval([100 * (own[seed] - base[seed]) for seed in sorted(own.keys() & base.keys())])
            prefix = "" if name == "gain" else "against_"
            row |= {f"{name}_points": mean, f"{prefix}half_width_points": half}
        found.append(row)
    return found


def tuned(rows: Iterable[Row], condition: str, rates: Sequence[float]) -> bool:
    """Whether every rate was tried: an interrupted tuning chooses none."""
    return set(rates) <= {row["rate"] for row in rows if row["condition"] == condition and row["seed"] == 0}


def chosen_rate(rows: Iterable[Row], condition: str) -> float:
    """That of the first seed's runs which is best on the validation split."""
    first = [r for r in rows if r["condition"] == condition and r["seed"] == 0]
    return float(max(first, key=lambda r: r["validation"])["rate"])


def default_of(bench: Bench, teacher_validation: float, *, features: bool) -> Row:
    """The recipe that `default` comes to here, and why."""
    labels = bench.few.labels[bench.few.splits.train]
    known = Known.of(labels, bench.taught[False], teacher_validation, features=features)
    options = options_for(known)
    right = {option.recipe: bench.pilot(option.recipe) for option in options}
    return {
        "recipe": best_recipe(right),
        "reasons": [option.reason for option in options],
        "pilot": {recipe: float(answers.mean()) for recipe, answers in right.items()},
    }


def open_bench(
    store: Store,
    teacher: Teacher,
    crossfit: Crossfit | None,
    few: Dataset,
    student: StudentSpec,
    *,
    steps: int,
    peer: bool,
) -> Bench:
    """With all that the conditions learn from, labelled."""
    own_views = LABELLED_VIEWS if len(few.labelled.splits.train) < 5000 else VIEWS
    taught, alone = {}, {}
    for mixed in (False, True):
        augmentation = AUGMENTATION.model_copy(update={"mix": float(mixed)})
        views = stored_views(store, few, augmentation)
        taps = (LOGITS,) if mixed else (LOGITS, FEATURES)
        labeller = Labeller(teacher, few, views, taps, crossfit=crossfit)
        taught[mixed] = SplitStore(views, Labelling(store, labeller, silent).build())
        own = augmentation.model_copy(update={"views": own_views})
        alone[mixed] = SplitStore(stored_views(store, few.labelled, own))
    logits = taught[False].signal(LOGITS)
    assert logits is not None
    sure = filtered(store, few, logits, VIEWS, TrainConfig.model_validate({"min_confidence": SURE}))
    return Bench(student, few, taught, alone, partners_of(few, taught[False]), sure, steps, peer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", type=int, default=600)
    parser.add_argument("--teacher", choices=tuple(FITS), default="fitted")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--images", type=int)
    parser.add_argument("--student", type=parse_student, default=STUDENT)
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--against", default="labels")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    rates = tuple(map(float, arguments.rates.split(",")))
    conditions = arguments.only.split(",") if arguments.only else list(dict.fromkeys([*CONTROLS, *OF_CLASSES]))
    known = {*CONTROLS, "kd_sure", *OF_CLASSES, *peer_losses.SETTINGS}
    if unknown := [name for name in conditions if name not in known]:
        parser.error(f"no such condition: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    settings = {
        "labels": arguments.labels,
        "images": arguments.images,
        "teacher": arguments.teacher,
        "side": arguments.side,
        "student": arguments.student.label,
        "steps": arguments.steps,
    }
    rows = Rows.open(arguments.json, ("condition", "rate", "seed"), settings)
    peer = any(name in peer_losses.SETTINGS for name in conditions)
    if peer:
        # A missing package is told of here, not after the teacher's fitting and not by a worker that dies.
        peer_losses.register()
    whole, few = open_data(arguments.data, arguments.labels, arguments.images)
    work = arguments.work if arguments.images is None else arguments.work / f"{arguments.images}-images"
    teacher = open_teacher(arguments.teacher, whole, few, arguments.weights, work, side=arguments.side)
    crossfit = None
    if arguments.teacher == "crossfit":
        folds = folds_of(few, 2, seed=0)
        others = [
            open_teacher("crossfit", whole, few, None, work, side=arguments.side, fold=folds == fold) for fold in (0, 1)
        ]
        crossfit = Crossfit(tuple(others), folds)
    store = Store(arguments.work / "cache", listen)
    bench = open_bench(store, teacher, crossfit, few, arguments.student, steps=arguments.steps, peer=peer)
    teacher_test = split_quality(teacher.module, whole, whole.splits.test, teacher.contract)

    with workers(bench, arguments.jobs) as done:

        def do(wanted: Iterable[tuple[str, float, int]]) -> None:
            """Those of them that are not done yet."""
            for made in done([one for one in wanted if not rows.have(*one)]):
                rows.add(made)

        do((condition, rate, 0) for condition in conditions for rate in rates)
        for seed in range(1, arguments.seeds):
            do((condition, chosen_rate(rows, condition), seed) for condition in conditions)
    teacher_validation = split_quality(teacher.module, whole, whole.splits.validation, teacher.contract)
    default = default_of(bench, teacher_validation, features=crossfit is None)
    table = compared(rows, arguments.against, rates)
    rows.write(
        data=whole.name,
        classes=len(whole.classes),
        train_images=len(whole.splits.train),
        teacher_test=teacher_test,
        rates=list(rates),
        default=default,
        against=arguments.against,
        compared=table,
    )
    for row in table:
        gain = shown(row["gain_points"], row["half_width_points"], "points")
        other = shown(row["against_points"], row["against_half_width_points"], f"to {arguments.against}")
        other = "" if arguments.against == "labels" else f"   {other}"
        print(f"{row['condition']:24} {row['test_mean']:.2%}  {gain}{other}")
    print(f"default takes {default['recipe']}: {'; '.join(default['reasons'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
