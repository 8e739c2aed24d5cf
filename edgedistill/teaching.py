"""The teacher of a build, in whatever process: loaded, fitted where the build file asks for it, and set to label views."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgedistill.devices.turns import training
from edgedistill.distill.fit_teacher import fit_teacher, load_fitted
from edgedistill.pipeline import VIEW_CODE
from edgedistill.store import stage_key
from edgedistill.teachers.cache import Labelling
from edgedistill.teachers.labelling import Labeller
from edgedistill.teachers.load import load_teacher
from edgedistill.teachers.teacher import Teacher
from edgedistill.tools import TRAINING_TOOLS
from edgedistill.workbench import Workbench


def open_teacher(bench: Workbench) -> Teacher:
    """The teacher that the build file describes; loaded once a workbench. Raises InputError."""
    if bench.teacher is None:
        teacher = load_teacher(bench.config.teacher, bench.dataset, bench.config.data, bench.base)
        bench.teacher = teacher if bench.config.teacher.fit is None else _fitted(bench, teacher)
    return bench.teacher


def open_labelling(bench: Workbench) -> Labelling:
    """The making of the build's view store: no view is labelled while something is measured on this machine."""
    config = bench.config
    labeller = Labeller(open_teacher(bench), bench.dataset, config.augmentation, device=config.train.device)
    listener = bench.store.listener
    return Labelling(bench.store, labeller, listener, partial(training, listener))


def _fitted(bench: Workbench, teacher: Teacher) -> Teacher:
    config = bench.config
    fit = config.teacher.fit
    assert fit is not None
    key = stage_key(
        {
            "teacher": teacher.key,
            "contract": teacher.contract.model_dump(mode="json"),
            "data": bench.data_key,
            "fit": fit.model_dump(mode="json"),
            "augmentation": config.augmentation.model_dump(mode="json", exclude={"views"}),
            "device": config.train.device,
        },
        code=("edgedistill.distill", "edgedistill.teachers.load", *VIEW_CODE),
        tools=TRAINING_TOOLS,
    )

    def make(folder: Path) -> None:
        with training(bench.store.listener):
            fit_teacher(teacher, bench.dataset, fit, config.augmentation, config.train, folder, bench.store.listener)

    folder = bench.store.stage("teacher", key, make, subject=teacher.name, resumable=True)
    return load_fitted(teacher, folder)
