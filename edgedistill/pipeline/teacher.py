"""The teacher of a build, in whatever process: loaded, fitted where the build file asks for it, and set to label views."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgedistill.base.progress import telling
from edgedistill.base.store import MANIFEST, digest, stage_key, write_atomic
from edgedistill.base.versions import TRAINING_TOOLS
from edgedistill.devices.turns import training
from edgedistill.distill.fit_teacher import fit_teacher, load_fitted
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.recipes.taps import require_tap
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.identity import require_weights, teacher_identity
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.load import load_teacher
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.places import of_teacher, onnx_path, outputs_path
from edgedistill.distill.teachers.teacher import Crossfit, Teacher, folds_of
from edgedistill.pipeline import code
from edgedistill.pipeline.student_as_teacher import STUDENT, teacher_of_student
from edgedistill.pipeline.teacher_file import teacher_of_file
from edgedistill.pipeline.teacher_outputs import teacher_of_outputs
from edgedistill.pipeline.workbench import Workbench
from edgedistill.pipeline.working import keep_copies, viewed

STAGE = "teacher"
RECORD = "fit.json"


def open_teacher(bench: Workbench) -> Teacher:
    """The teacher that the build file describes; loaded once a workbench. Raises InputError."""
    if bench.teacher is None:
        teacher = _loaded(bench)
        bench.teacher = teacher if bench.config.teacher.fit is None else _fitted(bench, teacher, None)
        bench.unfitted = None
    return bench.teacher


def _loaded(bench: Workbench) -> Teacher:
    """The teacher as it comes; kept until it is opened, so that looking for its fits and opening it load it once."""
    if bench.unfitted is None:
        with telling(bench.store.listener, "load", bench.config.teacher.model):
            bench.unfitted = unfitted_teacher(bench)
    return bench.unfitted


def unfitted_teacher(bench: Workbench, *, fetch: bool = True) -> Teacher:
    """The teacher as it comes; with `fetch` off without a library's weights. Raises InputError, also where it lacks a tap of
    the recipe: that is known before it is fitted and has labelled anything."""
    with of_teacher(bench.number):
        teacher = _unfitted(bench, fetch=fetch)
        if bench.number == 0 and bench.recipe_is_settled and teacher.outputs is None:
            for tap in bench.recipe.taps:
                require_tap(teacher.module, tap, teacher.contract.width)
    return teacher


def _unfitted(bench: Workbench, *, fetch: bool) -> Teacher:
    model = bench.config.teacher.model
    if model.startswith(STUDENT):
        return teacher_of_student(bench)
    for path_of, load in ((onnx_path, teacher_of_file), (outputs_path, teacher_of_outputs)):
        if (path := path_of(model, bench.base)) is not None:
            require_weights(bench.config.teacher, vectors=bench.vector is not None)
            return load(bench, path)
    return load_teacher(bench.config.teacher, bench.dataset, bench.data, bench.base, fetch=fetch, vector=bench.vector)


def open_crossfit(bench: Workbench) -> Crossfit | None:
    """The teachers of the folds that `[teacher.fit] crossfit` asks for, fitted or found; loaded once a workbench."""
    fit = bench.config.teacher.fit
    if fit is None or fit.crossfit is None:
        return None
    if bench.crossfit is None:
        unfitted = _loaded(bench)
        folds = folds_of(bench.dataset, fit.crossfit, fit.seed)
        bench.crossfit = Crossfit(tuple(_fitted(bench, unfitted, fold) for fold in range(fit.crossfit)), folds)
        bench.unfitted = None
    return bench.crossfit


def open_labelling(
    bench: Workbench, views: StoredViews, taps: tuple[str, ...], autocast: torch.dtype | None
) -> Labelling:
    """The making of what the teacher gives at `taps` on `views`: nothing is labelled while something is measured on this
    machine."""
    dataset = viewed(bench, bench.dataset, views.side)
    labeller = Labeller(
        open_teacher(bench),
        dataset,
        views,
        taps,
        device=bench.config.train.device,
        autocast=autocast,
        # Threads, where a training has processes: the teacher keeps this one waiting, not busy.
        workers=max(1, choose_hardware(bench.config.train, dataset.images).workers),
        threads=bench.config.train.threads,
        listener=bench.store.listener,
        crossfit=open_crossfit(bench),
    )
    listener = bench.store.listener
    return Labelling(bench.store, labeller, listener, partial(training, listener))


def missing_fits(bench: Workbench) -> tuple[int | None, ...]:
    """The fits that the build file asks for and the cache does not have: None is that of the teacher itself, a number that
    of the one without the images of that fold."""
    fit = bench.config.teacher.fit
    if fit is None:
        return ()
    unfitted = _loaded(bench)
    wanted = (None, *range(fit.crossfit or 0))
    return tuple(fold for fold in wanted if bench.store.find(STAGE, _fit_key(bench, unfitted, fold)) is None)


def fit(bench: Workbench, fold: int | None, *, wait: bool = True) -> None:
    """Do one of `missing_fits` in this process. Raises InputError where training diverges, BusyError where another process
    is at it and `wait` is off."""
    _fitted(bench, _loaded(bench), fold, wait=wait)


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


def _fitted(bench: Workbench, teacher: Teacher, fold: int | None, *, wait: bool = True) -> Teacher:
    """`teacher` fitted to the labelled images, without those of a fold where there is one."""
    fit = bench.config.teacher.fit
    assert fit is not None
    data, subject, kept = bench.dataset, teacher.name, _without(bench, fold)
    if kept is not None:
        data = replace(data, splits=replace(data.splits, train=data.splits.train[kept]))
        subject = f"{teacher.name}, without a part of the images"

    def make(folder: Path) -> None:
        keep_copies(bench)
        labelled = viewed(bench, data.labelled, bench.working_side)
        with training(bench.store.listener):
            config = bench.config
            fit_teacher(teacher, fit, labelled, config.augmentation, config.train, folder, bench.store.listener)
        if kept is None:
            write_atomic(folder / RECORD, json.dumps({"asked": _asked(bench)}))

    key = _fit_key(bench, teacher, fold)
    return load_fitted(teacher, bench.store.stage(STAGE, key, make, subject=subject, resumable=True, wait=wait))


def _without(bench: Workbench, fold: int | None) -> NDArray[np.bool_] | None:
    """Which images [n] of the training split are not of a fold; None where there is none."""
    fit = bench.config.teacher.fit
    if fold is None or fit is None or fit.crossfit is None:
        return None
    kept: NDArray[np.bool_] = folds_of(bench.dataset, fit.crossfit, fit.seed) != fold
    return kept


def _fit_key(bench: Workbench, teacher: Teacher, fold: int | None) -> str:
    key, kept = _key(bench, teacher.key), _without(bench, fold)
    return key if kept is None else digest([key, bench.dataset.splits.train[kept].tolist()])


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
            "fit": config.teacher.fit.model_dump(mode="json", exclude={"crossfit"}),
            "augmentation": config.augmentation.model_dump(mode="json", exclude={"views"}),
            "side": bench.working_side,
            "device": config.train.device,
            "processes": config.train.processes,
        },
        code=code.TEACHER,
        tools=TRAINING_TOOLS,
    )
