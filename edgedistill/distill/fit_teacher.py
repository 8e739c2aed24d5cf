"""`[teacher] fit`: train or fine-tune the teacher on the training split."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from edgedistill.base.errors import InputError, TrialFailure
from edgedistill.base.progress import Listener
from edgedistill.base.store import digest, write_atomic
from edgedistill.data.datasets import Dataset
from edgedistill.distill.batches import DrawnViews, ViewBatches
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.loop import STATE, Schedule, Stretch, train
from edgedistill.distill.recipes.losses import bound
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.teachers.load import weights_sha256
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.distill.train import weights_bytes
from edgedistill.documents.build_file import AugmentationConfig, TrainConfig
from edgedistill.documents.lengths import batch_size_of
from edgedistill.documents.recipes import labels_alone
from edgedistill.documents.teachers import FitConfig

WEIGHTS = "teacher.safetensors"
# Not those of `[train]`: how students are trained must not ask for the teacher to be fitted again.
WARMUP_EPOCHS = 1.0
EMA_DECAY = 0.99


def fit_teacher(
    teacher: Teacher,
    fit: FitConfig,
    dataset: Dataset,
    augmentation: AugmentationConfig,
    config: TrainConfig,
    folder: Path,
    listener: Listener,
) -> Teacher:
    """A copy of `teacher` trained with labels for `fit.epochs` on views drawn anew each epoch; its key is new.

    `config` gives device, precision, workers and the interval of checkpoints, nothing that changes what is learnt.
    Goes on from what a killed call left in `folder`; writes teacher.safetensors there, which `load_fitted` reads.
    Progress is told as StageAdvanced of `teacher`. Raises InputError where training diverges.
    """
    if (folder / WEIGHTS).is_file():
        return load_fitted(teacher, folder)
    source = DrawnViews(len(dataset.splits.train), augmentation)
    batch_size = batch_size_of(fit.batch_size, len(dataset.splits.train))
    schedule = Schedule(
        total_epochs=fit.epochs,
        learning_rate=fit.learning_rate,
        weight_decay=fit.weight_decay,
        warmup_epochs=WARMUP_EPOCHS,
        ema_decay=EMA_DECAY,
        seed=fit.seed,
        checkpoint_seconds=config.checkpoint_seconds,
    )
    try:
        outcome = train(
            Pupil(copy.deepcopy(teacher.module), bound([labels_alone(fit.label_smoothing)]), len(dataset.classes)),
            ViewBatches(dataset, teacher.contract, source, batch_size=batch_size, seed=fit.seed),
            schedule,
            choose_hardware(config, dataset.images),
            Stretch(fit.epochs, folder, listener=listener, stage="teacher"),
        )
    except TrialFailure as failure:
        raise InputError(
            f"the teacher cannot be fitted: {failure.message}",
            fix="lower learning_rate or batch_size in [teacher] fit",
        ) from failure
    write_atomic(folder / WEIGHTS, weights_bytes(outcome.pupil.network))
    (folder / STATE).unlink()
    return load_fitted(teacher, folder)


def load_fitted(teacher: Teacher, folder: Path) -> Teacher:
    """`teacher` with the weights that `fit_teacher` left in `folder`."""
    module = copy.deepcopy(teacher.module)
    module.load_state_dict(load_file(folder / WEIGHTS))
    return replace(teacher, module=module.eval(), key=digest([teacher.key, weights_sha256(module)]))
