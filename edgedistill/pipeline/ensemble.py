"""Several teachers: how much each of them counts, and what they get right together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Note
from edgedistill.base.store import stage_key, write_atomic
from edgedistill.base.versions import TRAINING_TOOLS
from edgedistill.devices.turns import training
from edgedistill.distill.stored.mixing import mixture_weights, softmax
from edgedistill.distill.teachers.ensemble import Ensemble
from edgedistill.documents.results import EnsembleMember
from edgedistill.networks.tasks import unit
from edgedistill.pipeline import code
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.teacher_outputs import split_outputs
from edgedistill.pipeline.workbench import Workbench

STAGE = "ensemble"
RECORD = "ensemble.json"


def open_ensemble(bench: Workbench) -> Ensemble | None:
    """The ensemble of a build with several teachers, opened once a workbench: what each says of the validation split is
    found, or asked. None for a build with one."""
    if bench.ensemble is None and bench.config.teachers:
        bench.ensemble = _opened(bench)
    return bench.ensemble


def _opened(bench: Workbench) -> Ensemble:
    benches = (bench, *bench.others)
    teachers = [open_teacher(one) for one in benches]
    if len({teacher.contract.width for teacher in teachers}) > 1:
        found = ", ".join(f"{teacher.name} {teacher.contract.width}" for teacher in teachers)
        raise InputError(
            f"the teachers' vectors differ in how many numbers they have: {found}",
            fix="name teachers whose vectors are as long as one another, or one of them",
        )
    said_of = softmax if bench.vector is None else unit
    key = stage_key(
        {
            "teachers": [teacher.key for teacher in teachers],
            "ensemble": bench.config.ensemble.model_dump(mode="json", include={"weights"}),
            "vector": None if bench.vector is None else bench.vector.model_dump(mode="json"),
            "data": bench.data_key,
        },
        code=code.ENSEMBLE,
        tools=TRAINING_TOOLS,
    )

    def make(folder: Path) -> None:
        truth = bench.truth("validation")
        with training(bench.store.listener):
            said = [
                said_of(split_outputs(one, teacher, "validation"))
                for one, teacher in zip(benches, teachers, strict=True)
            ]
        asked = bench.config.ensemble.weights
        if asked == "fitted":
            weights = mixture_weights(np.stack([p[np.arange(len(p)), bench.labels("validation")] for p in said]))
        else:
            weights = given_weights(asked, len(said))
        together = sum(weight * p for weight, p in zip(weights, said, strict=True))
        found = {
            "weights": weights,
            "qualities": [bench.task.score(p, truth) for p in said],
            # A mean of vectors is compared by its direction, as each of them is.
            "quality": bench.task.score(np.asarray(together), truth),
        }
        write_atomic(folder / RECORD, json.dumps(found))

    folder = bench.store.stage(STAGE, key, make, subject=f"{len(teachers)} teachers")
    found = json.loads((folder / RECORD).read_text())
    members = tuple(
        EnsembleMember(name=teacher.name, weight=weight, quality_validation=quality)
        for teacher, weight, quality in zip(teachers, found["weights"], found["qualities"], strict=True)
    )
    return Ensemble(members, found["quality"], bench.task.metric)


def given_weights(asked: str | Sequence[float], count: int) -> tuple[float, ...]:
    """Of `count` teachers, of sum 1: as they were `asked` for, or equal ones."""
    numbers = (1.0,) * count if isinstance(asked, str) else asked
    return tuple(number / sum(numbers) for number in numbers)


def tell_ensemble(bench: Workbench, ensemble: Ensemble) -> None:
    """A mean that is less accurate than one of its teachers mostly has a weak one among them."""
    best = max(ensemble.members, key=lambda member: member.quality_validation)
    if ensemble.quality_validation >= best.quality_validation:
        bench.store.listener(Note(ensemble.sentence))
        return
    fix = "leave out a weak one, or write " + ('weights = "fitted"' if bench.vector is None else "other weights")
    bench.store.listener(Note(f"{ensemble.sentence}; {best.name} alone has more: {fix} in [ensemble]", warning=True))
