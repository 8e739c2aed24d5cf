"""The steps from a student's spec to a verified file; between training and verifying stand those of `files.py`, and
`measuring.py` comes after.

    train -> export -> quantise -> compile -> verify -> measure

Each step is a stage of the store, keyed by what goes into it; called again with the same inputs it opens the folder
that the first call made. The two wings of the package, the one that trains and the one that measures, meet here.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from edgedistill.artifacts import (
    CompiledArtifact,
    ExportedModel,
    Inspected,
    StandIn,
    TrainedStudent,
    Verification,
    Verified,
)
from edgedistill.devices.turns import training
from edgedistill.distill.start import start_of
from edgedistill.distill.train import load_student, read_trained, train_student
from edgedistill.files import compiled
from edgedistill.progress import StageAdvanced
from edgedistill.runtimes import runtime_for
from edgedistill.specs import Contract, Format, StudentSpec
from edgedistill.store import code_version, digest, file_sha256, stage_key, write_atomic
from edgedistill.students.build import build_student, deploy
from edgedistill.students.families import code_of
from edgedistill.teachers.cache import ViewStore
from edgedistill.tools import EXPORT_TOOLS, TRAINING_TOOLS
from edgedistill.verification import verify
from edgedistill.workbench import Source, Workbench

VIEW_CODE = tuple(f"edgedistill.data.{name}" for name in ("augment", "images", "preprocessing", "views"))

TRAINING_CODE = ("edgedistill.students", "edgedistill.distill", *VIEW_CODE)


def _identity(spec: StudentSpec) -> dict[str, Any]:
    """A student's choices, with the source of its family where that comes from another package."""
    return {
        "spec": spec.model_dump(mode="json"),
        "code": {name: code_version(name) for name in code_of(spec.family)},
    }


def train(
    bench: Workbench,
    spec: StudentSpec,
    views: ViewStore,
    *,
    epochs: int,
    total_epochs: int,
    previous: TrainedStudent | None,
    wait: bool = True,
) -> TrainedStudent:
    """The student after `epochs` of its schedule, going on from `previous`, an earlier rung of the same run. Raises
    TrialFailure where training fails, BusyError where another process is at it and `wait` is off."""
    contract = bench.contract(spec.resolution)
    key = _training_key(bench, spec, views, epochs, total_epochs, previous)
    subject = f"{spec.label} to epoch {epochs}"
    make = partial(_train_into, bench, spec, contract, views, epochs, total_epochs, previous)
    folder = bench.store.stage("train", key, make, subject=subject, resumable=True, wait=wait)
    return read_trained(folder)


def trained_before(bench: Workbench, spec: StudentSpec, views: ViewStore) -> tuple[TrainedStudent, ...]:
    """What the cache has of a student: its rungs in order, as far as an earlier search with this teacher, data and recipe
    took them."""
    found: list[TrainedStudent] = []
    rungs = bench.config.search.rungs
    for epochs in rungs:
        key = _training_key(bench, spec, views, epochs, rungs[-1], found[-1] if found else None)
        folder = bench.store.find("train", key)
        if folder is None:
            break
        found.append(read_trained(folder))
    return tuple(found)


def _training_key(
    bench: Workbench,
    spec: StudentSpec,
    views: ViewStore,
    epochs: int,
    total_epochs: int,
    previous: TrainedStudent | None,
) -> str:
    start = start_of(bench.config.space, spec.family)
    return stage_key(
        {
            "student": _identity(spec),
            "start": start.identity if start else None,
            "contract": bench.contract(spec.resolution).model_dump(mode="json"),
            "data": bench.data_key,
            "views": views.folder.name,
            "recipe": bench.config.train.model_dump(mode="json", exclude={"checkpoint_seconds", "workers"}),
            "epochs": epochs,
            "total_epochs": total_epochs,
            "previous": previous.weights.parent.name if previous else None,
        },
        code=TRAINING_CODE,
        tools=TRAINING_TOOLS,
    )


def _train_into(
    bench: Workbench,
    spec: StudentSpec,
    contract: Contract,
    views: ViewStore,
    epochs: int,
    total_epochs: int,
    previous: TrainedStudent | None,
    folder: Path,
) -> None:
    def on_progress(done: int, total: int, note: str) -> None:
        bench.store.listener(StageAdvanced("train", done, total, note))

    with training(bench.store.listener):
        train_student(
            spec,
            contract,
            bench.dataset,
            views,
            bench.config.augmentation,
            bench.config.train,
            epochs=epochs,
            total_epochs=total_epochs,
            folder=folder,
            previous=previous.weights.parent if previous else None,
            on_progress=on_progress,
            start=start_of(bench.config.space, spec.family),
        )


def source_of(bench: Workbench, trained: TrainedStudent) -> Source:
    """A trained student as a source of files."""
    contract = bench.contract(trained.spec.resolution)
    key = digest([_identity(trained.spec), file_sha256(trained.weights)])
    return Source(trained.spec.label, key, contract, lambda: deploy(load_student(trained, contract)))


def untrained(bench: Workbench, spec: StudentSpec) -> Source:
    """A student with random weights: its files cost the same time to run as those of the trained one."""
    contract = bench.contract(spec.resolution)

    def load() -> nn.Module:
        import torch

        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            return deploy(build_student(spec, contract))

    return Source(f"{spec.label} (random weights)", digest(["untrained", _identity(spec)]), contract, load)


def verified(bench: Workbench, artifact: CompiledArtifact, source: Source) -> Verification:
    """Parity and validation accuracy of the artifact, by running it; what can be checked instead where it cannot run."""
    key = stage_key(
        {"artifact": artifact.sha256, "source": source.key, "data": bench.data_key},
        code=("edgedistill.verification", "edgedistill.runtimes", "edgedistill.data.preprocessing"),
        tools=EXPORT_TOOLS,
    )

    def make(folder: Path) -> None:
        images, labels = bench.images("validation", source.contract), bench.labels("validation")
        found = verify(runtime_for(artifact.format), artifact, bench.reference(source), images, labels)
        write_atomic(folder / "verification.json", found.model_dump_json())

    folder = bench.store.stage("verify", key, make, subject=f"{source.label} {artifact.format} {artifact.scheme.label}")
    content = json.loads((folder / "verification.json").read_text())
    return (Verified if content["kind"] == "run" else Inspected).model_validate(content)


def stand_in_for(bench: Workbench, artifact: CompiledArtifact, model: ExportedModel, source: Source) -> StandIn | None:
    """What can be run in place of an engine that cannot: the ONNX file it was built from. None for other formats."""
    if artifact.format is not Format.TENSORRT:
        return None
    found = verified(bench, compiled(bench, model, Format.ONNX), source)
    what = "the ONNX file it was built from, run by ONNX Runtime,"
    if not isinstance(found, Verified):
        return None
    return StandIn(
        what=what, accuracy_validation=found.accuracy_validation, images=found.parity.images, right=found.right
    )
