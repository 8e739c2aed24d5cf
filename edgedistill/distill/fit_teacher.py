"""`[teacher] fit`: train or fine-tune the teacher on the training split."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from edgedistill.base.errors import InputError, TrialFailure
from edgedistill.base.progress import Event, Listener, Note, StageAdvanced
from edgedistill.base.store import copy_atomic, digest, write_atomic
from edgedistill.base.units import format_percent
from edgedistill.data.datasets import Dataset
from edgedistill.distill.batches import DrawnViews, ViewBatches
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.head_first import with_fitted_head
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
EPOCHS = "epochs.json"
BEST = "best.safetensors"
# Not those of `[train]`: how students are trained must not ask for the teacher to be fitted again.
WARMUP_EPOCHS = 1.0
EMA_DECAY = 0.99
RATE, TUNING_RATE = 2e-3, 1e-3
"""The highest rate from random weights, and from weights that were trained before."""
TUNING_LAYER_DECAY = 0.9


def settled(fit: FitConfig, *, trained: bool) -> FitConfig:
    """`fit` without `auto`, for a network whose weights were `trained` before or are random."""
    auto = {
        "learning_rate": TUNING_RATE if trained else RATE,
        "layer_decay": TUNING_LAYER_DECAY if trained else 1.0,
        "head_first": trained,
    }
    return fit.model_copy(update={name: value for name, value in auto.items() if getattr(fit, name) == "auto"})


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
    fit = settled(fit, trained=teacher.trained)
    module, record = teacher.module, _Record.read(folder)
    if fit.head_first and not (folder / STATE).is_file():
        found = with_fitted_head(module, dataset, teacher.contract, fit.seed)
        if found is not None:
            module, quality = found
            told = f"a classifier fitted to the teacher's features gets {format_percent(quality)}"
            listener(Note(f"{told} of the validation split right"))
        if fit.keep == "best":
            record = record.after(0, module, dataset, teacher, folder)
    source = DrawnViews(len(dataset.splits.train), augmentation)
    batch_size = batch_size_of(fit.batch_size, len(dataset.splits.train))
    assert fit.learning_rate != "auto" and fit.layer_decay != "auto"
    schedule = Schedule(
        total_epochs=fit.epochs,
        learning_rate=fit.learning_rate,
        weight_decay=fit.weight_decay,
        warmup_epochs=WARMUP_EPOCHS,
        ema_decay=EMA_DECAY,
        seed=fit.seed,
        checkpoint_seconds=config.checkpoint_seconds,
        layer_decay=fit.layer_decay,
    )
    batches = ViewBatches(dataset, teacher.contract, source, batch_size=batch_size, seed=fit.seed)

    def listen(event: Event) -> None:
        """Of each epoch's end as a part of the whole."""
        if isinstance(event, StageAdvanced):
            event = replace(event, total=fit.epochs * batches.steps_per_epoch)
        listener(event)

    # For the last epoch's weights no earlier one is looked at.
    every = range(1, fit.epochs + 1) if fit.keep == "best" else (fit.epochs,)
    stops = [epoch for epoch in every if epoch not in record.qualities]
    hardware, terms = choose_hardware(config, dataset.images), bound([labels_alone(fit.label_smoothing)])
    for epoch in stops:
        pupil = Pupil(copy.deepcopy(module), terms, len(dataset.classes))
        try:
            outcome = train(
                pupil, batches, schedule, hardware, Stretch(epoch, folder, listener=listen, stage="teacher")
            )
        except TrialFailure as failure:
            raise InputError(
                f"the teacher cannot be fitted: {failure.message}",
                fix="lower learning_rate or batch_size in [teacher] fit",
            ) from failure
        record = record.after(epoch, outcome.pupil.network, dataset, teacher, folder)
    listener(Note(record.sentence))
    copy_atomic(folder / BEST, folder / WEIGHTS)
    for name in (BEST, EPOCHS, STATE):
        (folder / name).unlink()
    return load_fitted(teacher, folder)


@dataclass(frozen=True)
class _Record:
    """The qualities on the validation split after the epochs that were looked at, 0 is before the first one, in a folder
    that has the best one's weights; of equals the later one's."""

    qualities: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> _Record:
        path = folder / EPOCHS
        return cls(dict(json.loads(path.read_text()))) if path.is_file() else cls()

    def after(self, epoch: int, network: nn.Module, dataset: Dataset, teacher: Teacher, folder: Path) -> _Record:
        """With a further epoch's, or that of a killed run again."""
        quality = split_quality(network, dataset, dataset.splits.validation, teacher.contract)
        if quality >= max((one for number, one in self.qualities.items() if number != epoch), default=0.0):
            write_atomic(folder / BEST, weights_bytes(network))
        found = _Record({**self.qualities, epoch: quality})
        write_atomic(folder / EPOCHS, json.dumps(list(found.qualities.items())))
        return found

    @property
    def sentence(self) -> str:
        best, last = max(self.qualities.values()), max(self.qualities)
        told = f"the fitted teacher gets {format_percent(best)} of the validation split right"
        if len(self.qualities) == 1:
            return told
        epoch = max(number for number, quality in self.qualities.items() if quality == best)
        when = f"after epoch {epoch} of {last}" if epoch else "before the first epoch"
        return f"{told}, {when} (the last: {format_percent(self.qualities[last])})"


def load_fitted(teacher: Teacher, folder: Path) -> Teacher:
    """`teacher` with the weights that `fit_teacher` left in `folder`."""
    module = copy.deepcopy(teacher.module)
    module.load_state_dict(load_file(folder / WEIGHTS))
    return replace(teacher, module=module.eval(), key=digest([teacher.key, weights_sha256(module)]))
