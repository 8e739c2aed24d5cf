"""A student from a spec, the stored views and a recipe; rung by rung of one schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from edgedistill.base.store import write_atomic
from edgedistill.data.datasets import Dataset
from edgedistill.data.prepared import prepared
from edgedistill.distill.batches import ViewBatches
from edgedistill.distill.evaluate import collected, split_quality
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.loop import Schedule, Stretch, train
from edgedistill.distill.recipes.aligners import UnitStatistics
from edgedistill.distill.recipes.losses import recipe_of
from edgedistill.distill.recipes.pupil import SHARES, Pupil
from edgedistill.distill.start import StartWeights, load_start
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.lengths import batch_size_of
from edgedistill.documents.recipes import LOGITS, OUTPUTS
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import build_student
from edgedistill.networks.families.registry import family as find_family
from edgedistill.networks.tasks import Truth, class_vectors, task_of

WEIGHTS = "student.safetensors"
RECORD = "student.json"
STATISTICS_IMAGES = 4096
FINE_TUNING_RATE = 1e-3
"""The highest rate for a whole network whose weights were trained before."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """What students learn: the training split of `dataset` in the `stored` views, by the recipe and the settings of
    `config`. `truth` is what their answers to the validation split are held against, None for its labels."""

    dataset: Dataset
    config: TrainConfig
    stored: SplitStore
    truth: Truth | None = None

    def batches(self, contract: Contract) -> ViewBatches:
        """At the resolution of `contract`. Raises ValueError for a recipe that needs a teacher where none was asked."""
        for tap in recipe_of(self.config).taps:
            if self.stored.signal(tap) is None:
                raise ValueError(f"the recipe needs a teacher's {tap}")
        batch_size = batch_size_of(self.config.batch_size, len(self.stored.positions()))
        return ViewBatches(self.dataset, contract, self.stored, batch_size=batch_size, seed=self.config.seed)

    def rated(self, spec: StudentSpec, start: StartWeights | None) -> Lessons:
        """These for one student: a learning rate of `auto` is what its family says for its width, from a lower one where its
        weights were trained before."""
        if self.config.learning_rate != "auto":
            return self
        family = find_family(spec.family)
        if start is not None:
            family = replace(family, learning_rate=FINE_TUNING_RATE)
        return replace(self, config=self.config.model_copy(update={"learning_rate": family.rate(spec)}))

    def statistics(self) -> dict[str, UnitStatistics]:
        """Of the teacher's units at each tap beside the output, over images drawn from view 0 of those that are learnt from.
        Their classes are the teacher's own where its logits are stored, else the labels."""
        taps = [tap for tap in recipe_of(self.config).taps if tap not in OUTPUTS]
        if not taps:
            return {}
        train, kept = self.dataset.splits.train, self.stored.positions()
        positions = kept[np.sort(np.random.default_rng(0).permutation(len(kept))[:STATISTICS_IMAGES])]
        said = self.stored.teacher(0, positions)
        classes = said[LOGITS].argmax(1) if LOGITS in said else self.dataset.labels[train[positions]]
        return {tap: UnitStatistics.of(said[tap].astype(np.float32), classes.astype(np.int64)) for tap in taps}


def train_student(
    spec: StudentSpec,
    contract: Contract,
    lessons: Lessons,
    stretch: Stretch,
    total_epochs: int,
    start: StartWeights | None = None,
) -> TrainedStudent:
    """Train a student over a stretch of a schedule of `total_epochs`: up to an epoch above 0 and no later than that.

    Its `previous` is the folder of an earlier rung of the same run; without one it begins from `start`, else from random
    weights. Rungs end with the weights of one uninterrupted run. Epoch e sees stored view e modulo the number of views.

    Writes into the stretch's folder the averaged weights (student.safetensors), the state for the next rung (state.pt) and,
    last, the result (student.json, with a path relative to `folder`: a stage's folder is renamed when it is whole). Raises
    TrialFailure for a run that diverges.
    """
    epochs, folder = stretch.until_epoch, stretch.folder
    dataset, config = lessons.dataset, lessons.rated(spec, start).config
    if not 0 < epochs <= total_epochs:
        raise ValueError(f"epoch {epochs} of a schedule of {total_epochs}")
    if (folder / RECORD).is_file():
        return read_trained(folder)
    hardware = choose_hardware(config, dataset.images)
    batches = lessons.batches(contract)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        module = build_student(spec, contract)
        recipe, classes = recipe_of(config), len(dataset.classes)
        pupil = Pupil(module, recipe, classes, lessons.statistics(), class_vectors(contract))
    if start is not None:
        load_start(module.network, start, spec, contract, config.seed)
    outcome = train(pupil, batches, schedule_of(config, total_epochs), hardware, stretch)
    finished = outcome.pupil.folded(best_share(outcome.pupil, dataset, contract))
    trained = TrainedStudent(
        spec=spec,
        weights=folder / WEIGHTS,
        epochs=epochs,
        total_epochs=total_epochs,
        quality_validation=split_quality(finished, dataset, dataset.splits.validation, contract, lessons.truth),
        train_seconds=outcome.seconds,
        images_per_second=epochs * len(dataset.splits.train) / outcome.seconds if outcome.seconds > 0 else None,
    )
    write_atomic(trained.weights, weights_bytes(finished))
    write_atomic(folder / RECORD, trained.model_copy(update={"weights": Path(WEIGHTS)}).model_dump_json())
    return trained


def best_share(pupil: Pupil, dataset: Dataset, contract: Contract) -> float:
    """The share of the own head that is most accurate on the validation split, the nearest to a half of several; 0 where
    there is no own head."""
    if pupil.own_head is None:
        return 0.0
    validation, task = dataset.splits.validation, task_of(contract)
    outputs = collected(pupil, prepared(dataset, validation, contract))
    shared, own = outputs[LOGITS], outputs["own_logits"]
    labels = dataset.labels[validation]
    scores = [task.score(shared.lerp(own, share).numpy(), labels) for share in SHARES]
    return max(zip(scores, SHARES, strict=True), key=lambda found: (found[0], -abs(found[1] - 0.5)))[1]


def schedule_of(config: TrainConfig, total_epochs: int) -> Schedule:
    """What `[train]` says of a schedule of `total_epochs`. Raises ValueError for a learning rate of `auto`."""
    if config.learning_rate == "auto":
        raise ValueError("the learning rate of a family has not been settled")
    return Schedule(
        total_epochs=total_epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_epochs=config.warmup_epochs,
        ema_decay=config.ema_decay,
        seed=config.seed,
        checkpoint_seconds=config.checkpoint_seconds,
    )


def read_trained(folder: Path) -> TrainedStudent:
    """The student that `train_student` left in `folder`, wherever that folder lies by now."""
    trained = TrainedStudent.model_validate_json((folder / RECORD).read_text())
    return trained.model_copy(update={"weights": folder / trained.weights})


def load_student(trained: TrainedStudent, contract: Contract) -> nn.Module:
    """The trained student in eval mode on the CPU, branches not yet merged: float 0..255 [N, 3, R, R] to its outputs."""
    return load_weights(trained.spec, trained.weights, contract)


def load_weights(spec: StudentSpec, weights: Path, contract: Contract) -> nn.Module:
    """The same from the file of its weights."""
    with torch.random.fork_rng(devices=()):
        module = build_student(spec, contract)
    module.load_state_dict(load_file(weights))
    return module.eval()


def weights_bytes(module: nn.Module) -> bytes:
    """A module's parameters and buffers as a safetensors file. Tied weights are written once for each name."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()})
