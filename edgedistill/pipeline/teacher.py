"""The teacher of a build, in whatever process: loaded, fitted where the build file asks for it, and set to label views."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgedistill.base.store import stage_key
from edgedistill.base.versions import TRAINING_TOOLS
from edgedistill.devices.turns import training
from edgedistill.distill.fit_teacher import fit_teacher, load_fitted
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.load import load_teacher
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.distill.teachers.view_store import Labelling
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Workbench
from edgedistill.pipeline.train import lessons_of


def open_teacher(bench: Workbench) -> Teacher:
    """The teacher that the build file describes; loaded once a workbench. Raises InputError."""
    if bench.teacher is None:
        teacher = load_teacher(bench.config.teacher, bench.dataset, bench.data, bench.base)
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
        code=code.TEACHER,
        tools=TRAINING_TOOLS,
    )

    def make(folder: Path) -> None:
        with training(bench.store.listener):
            fit_teacher(teacher, fit, lessons_of(bench, None), folder, bench.store.listener)

    folder = bench.store.stage("teacher", key, make, subject=teacher.name, resumable=True)
    return load_fitted(teacher, folder)
