"""The teacher of a build, in whatever process: loaded, fitted where the build file asks for it, and set to label views."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from edgedistill.base.progress import telling
from edgedistill.base.store import MANIFEST, stage_key, write_atomic
from edgedistill.base.versions import TRAINING_TOOLS
from edgedistill.devices.turns import training
from edgedistill.distill.fit_teacher import fit_teacher, load_fitted
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.identity import teacher_identity
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.load import load_teacher
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Workbench

STAGE = "teacher"
RECORD = "fit.json"


def open_teacher(bench: Workbench) -> Teacher:
    """The teacher that the build file describes; loaded once a workbench. Raises InputError."""
    if bench.teacher is None:
        with telling(bench.store.listener, "load", bench.config.teacher.model):
            teacher = load_teacher(bench.config.teacher, bench.dataset, bench.data, bench.base)
        bench.teacher = teacher if bench.config.teacher.fit is None else _fitted(bench, teacher)
    return bench.teacher


def open_labelling(bench: Workbench, views: StoredViews) -> Labelling:
    """The making of the teacher's logits on `views`: nothing is labelled while something is measured on this machine."""
    labeller = Labeller(open_teacher(bench), bench.dataset, views, device=bench.config.train.device)
    listener = bench.store.listener
    return Labelling(bench.store, labeller, listener, partial(training, listener))


def fit_seconds(bench: Workbench) -> float | None:
    """How long the fit took that the build would find in the cache; None where there is no fit, or none yet. The teacher's
    weights are not looked at: they may have to be fetched."""
    if bench.config.teacher.fit is None:
        return None
    asked = _asked(bench)
    for record in (bench.store.root / STAGE).glob(f"*/{RECORD}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(record.read_text())["asked"] == asked and bench.store.find(STAGE, record.parent.name):
                return float(json.loads((record.parent / MANIFEST).read_text())["seconds"])
    return None


def _fitted(bench: Workbench, teacher: Teacher) -> Teacher:
    fit = bench.config.teacher.fit
    assert fit is not None

    def make(folder: Path) -> None:
        with training(bench.store.listener):
            config, data = bench.config, bench.dataset.labelled
            fit_teacher(teacher, fit, data, config.augmentation, config.train, folder, bench.store.listener)
        write_atomic(folder / RECORD, json.dumps({"asked": _asked(bench)}))

    folder = bench.store.stage(STAGE, _key(bench, teacher.key), make, subject=teacher.name, resumable=True)
    return load_fitted(teacher, folder)


def _asked(bench: Workbench) -> str:
    """What tells a fit from others before the teacher is loaded: a key with the source of its weights in their place."""
    contract = bench.data.model_dump(mode="json", include={"crop", "resize_filter"})
    return _key(bench, [teacher_identity(bench.config.teacher, bench.base), contract])


def _key(bench: Workbench, teacher: Any) -> str:
    """The key of the fit of what `teacher` stands for: its own key, which hashes its contract too."""
    config = bench.config
    assert config.teacher.fit is not None
    return stage_key(
        {
            "teacher": teacher,
            "data": bench.data_key,
            "fit": config.teacher.fit.model_dump(mode="json"),
            "augmentation": config.augmentation.model_dump(mode="json", exclude={"views"}),
            "device": config.train.device,
        },
        code=code.TEACHER,
        tools=TRAINING_TOOLS,
    )
