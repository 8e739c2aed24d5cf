"""A teacher of which there is a file of outputs alone: `model = "outputs:FILE"`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import InputError
from edgedistill.base.store import digest, file_sha256, stage_key, write_atomic
from edgedistill.data.names import image_names
from edgedistill.data.preprocessing import make_contract
from edgedistill.data.problems import some_of
from edgedistill.distill.evaluate import outputs_of
from edgedistill.distill.stored.encoding import encoding_of
from edgedistill.distill.stored.signals import HEADER, StoredSignal, file_name
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.answering import Answering
from edgedistill.distill.teachers.making import STAGE
from edgedistill.distill.teachers.outputs_file import mixed_outputs, read_outputs, read_vectors
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.recipes import OUTPUTS
from edgedistill.pipeline import code
from edgedistill.pipeline.workbench import Workbench

_SIDE: Final = 8
"""Of a teacher that sees nothing: less than any student's."""


def teacher_of_outputs(bench: Workbench, path: Path) -> Teacher:
    """The teacher whose outputs for all images of the data stand in the file at `path`. Raises InputError where some image
    has none."""
    dataset = bench.dataset
    folders = [folder for folder in (bench.data.path, bench.data.unlabelled) if folder is not None]
    names = image_names(dataset.images, folders)
    rows = read_vectors(path, names) if bench.vector else read_outputs(path, names, dataset.classes)
    used = np.concatenate([dataset.splits.train, dataset.splits.validation, dataset.splits.test])
    lacking = used[np.isnan(rows[used]).any(axis=1)]
    if len(lacking):
        raise InputError(
            f"{path} has no line for {len(lacking):,} of {len(used):,} images: {some_of([names[i] for i in lacking])}",
            fix="add them; images are named by their path from the data folder, or by their index",
        )
    return Teacher(
        name=bench.config.teacher.model,
        module=Answering(_nothing_answers),
        contract=make_contract(bench.data, dataset.classes, _SIDE, bench.mean, bench.std, bench.vector),
        key=digest([file_sha256(path), bench.data_key]),
        parameters=None,
        outputs=rows,
    )


def _nothing_answers(images: Images) -> NoReturn:
    raise InputError("the teacher is a file of outputs: it answers for no other images", fix="name a model as teacher")


def split_outputs(bench: Workbench, teacher: Teacher, split: str) -> Logits:
    """What a teacher, that of `bench`, says of the images of a split as they are: float32 [n, width]."""
    if teacher.outputs is not None:
        rows: Logits = teacher.outputs[getattr(bench.dataset.splits, split)]
        return rows
    return outputs_of(teacher.module, bench.images(split, teacher.contract))


def signals_of_outputs(
    bench: Workbench, views: StoredViews, teacher: Teacher, taps: tuple[str, ...]
) -> tuple[StoredSignal, ...]:
    """The outputs as the signal of stored views. Raises InputError for taps beside the output."""
    (output, *beside) = taps
    if output not in OUTPUTS or beside:
        others = " and ".join(tap for tap in taps if tap not in OUTPUTS)
        raise InputError(
            f"the recipe asks for the teacher's {others}, and its file has outputs alone",
            fix="use a recipe of logits, such as kd or dist",
        )
    outputs = teacher.outputs
    assert outputs is not None
    key = stage_key(
        {"teacher": teacher.key, "tap": output, "views": views.key, "train": bench.dataset.splits.train.tolist()},
        code=code.OUTPUTS,
        tools=("numpy",),
    )

    def make(folder: Path) -> None:
        mixed = partial(mixed_outputs, vectors=bench.vector is not None)
        rows, width = outputs[bench.dataset.splits.train], outputs.shape[1]
        encoding = encoding_of(output, width)
        for view in range(views.count):
            (folder / file_name(view)).write_bytes(encoding.encode(mixed(rows, views.at(view))).tobytes())
        header = {"tap": output, "views": views.key, "images": len(rows), "width": width, "teacher": teacher.name}
        write_atomic(folder / HEADER, json.dumps(header, indent=1))

    return (StoredSignal.open(bench.store.stage(STAGE, key, make, subject=teacher.name)),)
