"""A student from a spec, the stored views and a recipe; rung by rung of one schedule."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from edgedistill.artifacts import TrainedStudent
from edgedistill.config import AugmentationConfig, TrainConfig
from edgedistill.data.datasets import Dataset
from edgedistill.distill.batches import DrawnViews, StoredViews, ViewBatches, ViewSource
from edgedistill.distill.evaluate import split_accuracy
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.loop import OnProgress, Plan, train
from edgedistill.distill.recipes import recipe_of
from edgedistill.distill.start import StartWeights, load_start
from edgedistill.specs import Contract, StudentSpec
from edgedistill.store import write_atomic
from edgedistill.students.build import build_student
from edgedistill.teachers.cache import ViewStore

WEIGHTS = "student.safetensors"
RECORD = "student.json"


def train_student(
    spec: StudentSpec,
    contract: Contract,
    dataset: Dataset,
    view_store: ViewStore | None,
    augmentation: AugmentationConfig,
    config: TrainConfig,
    *,
    epochs: int,
    total_epochs: int,
    folder: Path,
    previous: Path | None,
    on_progress: OnProgress,
    start: StartWeights | None = None,
) -> TrainedStudent:
    """Train a student up to `epochs` of a schedule over `total_epochs`, 0 < epochs <= total_epochs.

    Goes on from what a killed call left in `folder`, else from `previous`, the folder of an earlier rung of the same run,
    else from `start`, else from random weights; rungs end with the weights of one uninterrupted run. Epoch e sees stored
    view e modulo the number of views;
    `cross_entropy` needs no store and sees the very same views.

    Writes into `folder` the averaged weights (student.safetensors), the state for the next rung (state.pt) and, last, the
    result (student.json, with a path relative to `folder`: a stage's folder is renamed when it is whole).
    `on_progress(step, last_step, note)` is told a few times a second. Raises TrialFailure for a run that diverges.
    """
    if not 0 < epochs <= total_epochs:
        raise ValueError(f"epoch {epochs} of a schedule of {total_epochs}")
    if (folder / RECORD).is_file():
        return read_trained(folder)
    recipe = recipe_of(config)
    source: ViewSource
    if not recipe.needs_teacher:
        source = DrawnViews(len(dataset.splits.train), augmentation, repeated=True)
    elif view_store is not None:
        source = StoredViews(view_store)
    else:
        raise ValueError(f"the recipe {config.recipe} needs a view store")
    hardware = choose_hardware(config, dataset.images)
    batches = ViewBatches(dataset, contract, source, batch_size=config.batch_size, seed=config.seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        module = build_student(spec, contract)
    if start is not None:
        load_start(module.network, start, contract)
    outcome = train(
        module,
        batches,
        recipe,
        plan_of(config, total_epochs),
        hardware,
        until_epoch=epochs,
        folder=folder,
        previous=previous,
        on_progress=on_progress,
    )
    trained = TrainedStudent(
        spec=spec,
        weights=folder / WEIGHTS,
        epochs=epochs,
        total_epochs=total_epochs,
        accuracy_validation=split_accuracy(outcome.module, dataset, dataset.splits.validation, contract),
        train_seconds=outcome.seconds,
        images_per_second=epochs * len(dataset.splits.train) / outcome.seconds if outcome.seconds > 0 else None,
    )
    write_atomic(trained.weights, weights_bytes(outcome.module))
    write_atomic(folder / RECORD, trained.model_copy(update={"weights": Path(WEIGHTS)}).model_dump_json())
    return trained


def plan_of(config: TrainConfig, total_epochs: int) -> Plan:
    """The loop's orders from `[train]`."""
    return Plan(
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
    """The trained student in eval mode on the CPU, branches not yet merged: float 0..255 [N, 3, R, R] to logits."""
    with torch.random.fork_rng(devices=()):
        module = build_student(trained.spec, contract)
    module.load_state_dict(load_file(trained.weights))
    return module.eval()


def weights_bytes(module: nn.Module) -> bytes:
    """A module's parameters and buffers as a safetensors file. Tied weights are written once for each name."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    return save(state)
