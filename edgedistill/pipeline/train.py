"""A student trained, rung by rung, as a source of files: each rung a stage of the store."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from edgedistill.base.source_code import code_version
from edgedistill.base.store import digest, file_sha256, stage_key
from edgedistill.base.versions import TRAINING_TOOLS
from edgedistill.devices.turns import training
from edgedistill.distill.loop import Stretch
from edgedistill.distill.recipes.losses import code_of as code_of_losses
from edgedistill.distill.start import start_of
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.train import Lessons, load_student, read_trained, train_student
from edgedistill.distill.under_rounding import WEIGHTS as TUNED
from edgedistill.distill.under_rounding import tune
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.specs import QuantScheme, StudentSpec
from edgedistill.networks.build import build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.registry import code_of
from edgedistill.networks.rounding.weights import with_weights
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Bench, Source, random_source
from edgedistill.pipeline.workbench import Workbench
from edgedistill.pipeline.working import viewed

CHANGES_NOTHING = {"checkpoint_seconds", "workers", "threads", "assistant"}
"""What `[train]` says of how, not of what is learnt. Whose views are learnt from is told by the store."""


def _taught_by(config: TrainConfig) -> dict[str, Any]:
    """What `[train]` says of what is learnt, a recipe by what it is made of and not by its name."""
    settings = config.model_dump(mode="json", exclude={*CHANGES_NOTHING, "recipe", "terms"})
    return {**settings, "terms": [term.model_dump(mode="json") for term in config.composition]}


def _identity(spec: StudentSpec) -> dict[str, Any]:
    """A student's choices, with the source of its family where that comes from another package."""
    return {
        "spec": spec.model_dump(mode="json"),
        "code": {name: code_version(name) for name in code_of(spec.family)},
    }


def train(
    bench: Workbench,
    spec: StudentSpec,
    stored: SplitStore,
    *,
    epochs: int,
    total_epochs: int,
    previous: TrainedStudent | None,
    wait: bool = True,
) -> TrainedStudent:
    """The student after `epochs` of its schedule, going on from `previous`, an earlier rung of the same run. Raises
    TrialFailure where training fails, BusyError where another process is at it and `wait` is off."""
    contract = bench.contract_of(spec)
    lessons = lessons_of(bench, spec, stored)
    key = _training_key(bench, spec, lessons, epochs, total_epochs, previous)

    def make(folder: Path) -> None:
        stretch = Stretch(epochs, folder, previous.weights.parent if previous else None, bench.store.listener)
        start = start_of(bench.space, spec.family)
        with training(bench.store.listener):
            train_student(spec, contract, lessons, stretch, total_epochs, start)

    subject = f"{spec.label} to epoch {epochs}"
    folder = bench.store.stage("train", key, make, subject=subject, resumable=True, wait=wait)
    return read_trained(folder)


def lessons_of(bench: Workbench, spec: StudentSpec, stored: SplitStore) -> Lessons:
    """What a build's students learn from, and at which rate."""
    dataset = viewed(bench, bench.taught, stored.stored_views.side)
    lessons = Lessons(dataset, bench.config.train, stored, bench.truth("validation"))
    return lessons.rated(spec, start_of(bench.space, spec.family))


def trained_before(bench: Workbench, spec: StudentSpec, stored: SplitStore) -> tuple[TrainedStudent, ...]:
    """What the cache has of a student: its rungs in order, as far as an earlier search with this teacher, data and recipe
    took them."""
    found: list[TrainedStudent] = []
    rungs, lessons = bench.rungs, lessons_of(bench, spec, stored)
    for epochs in rungs:
        key = _training_key(bench, spec, lessons, epochs, rungs[-1], found[-1] if found else None)
        if (folder := bench.store.find("train", key)) is None:
            break
        found.append(read_trained(folder))
    return tuple(found)


def _training_key(
    bench: Workbench,
    spec: StudentSpec,
    lessons: Lessons,
    epochs: int,
    total_epochs: int,
    previous: TrainedStudent | None,
) -> str:
    start = start_of(bench.space, spec.family)
    return stage_key(
        {
            "student": _identity(spec),
            "start": start.identity if start else None,
            "contract": bench.contract_of(spec).model_dump(mode="json"),
            "data": bench.data_key,
            "judged_by": bench.judged_by,
            "views": lessons.stored.key,
            "recipe": _taught_by(lessons.config),
            "epochs": epochs,
            "total_epochs": total_epochs,
            "previous": previous.weights.parent.name if previous else None,
        },
        code=(*code.TRAINING, *code_of_losses(bench.config.train)),
        tools=TRAINING_TOOLS,
    )


def source_of(bench: Workbench, trained: TrainedStudent) -> Source:
    """A trained student as a source of files."""
    contract = bench.contract_of(trained.spec)
    key = digest([_identity(trained.spec), file_sha256(trained.weights)])
    return Source(trained.spec.label, key, contract, lambda: deploy(load_student(trained, contract)))


def untrained(bench: Bench, spec: StudentSpec) -> Source:
    """A student with random weights: its files cost the same time to run as those of the trained one."""
    contract = bench.contract_of(spec)
    key = digest(["untrained", _identity(spec)])
    return random_source(f"{spec.label} (random weights)", key, contract, partial(build_student, spec, contract))


def tuned(bench: Workbench, source: Source, scheme: QuantScheme, lessons: Lessons) -> Source:
    """What training `source` under the rounding of `scheme` made of it: found, or made in this process. Raises TrialFailure
    where that diverges."""
    key = tuning_key(bench, source, scheme, lessons)

    def make(folder: Path) -> None:
        images = bench.calibration.pixels(source.contract)
        listener = bench.store.listener
        with training(listener):
            tune(source.load(), source.contract, images, scheme, lessons, folder, listener)

    subject = f"{source.label} {scheme.details}"
    weights = bench.store.stage("tune", key, make, subject=subject, resumable=True) / TUNED
    return Source(source.label, key, source.contract, lambda: with_weights(source.load(), source.contract, weights))


def tuning_key(bench: Workbench, source: Source, scheme: QuantScheme, lessons: Lessons) -> str:
    """What `tuned` depends on."""
    return stage_key(
        {
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "scheme": scheme.model_dump(mode="json"),
            "calibration": bench.calibration.key,
            "views": lessons.stored.key,
            "recipe": _taught_by(lessons.config),
        },
        code=(*code.TUNING, *code_of_losses(lessons.config)),
        tools=(*TRAINING_TOOLS, "torchao"),
    )
