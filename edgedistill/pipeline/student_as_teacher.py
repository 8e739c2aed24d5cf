"""A trained student as a teacher: what any process loads it from, as it loads the teacher of a build file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from edgedistill.base.store import digest, file_sha256
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.distill.train import load_weights
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.specs import StudentSpec
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.pipeline.workbench import Workbench

STUDENT: Final = "student:"
"""Before a spec as JSON, in the place of a library: build files cannot write it."""


def bench_taught_by(bench: Workbench, trained: TrainedStudent) -> Workbench:
    """The same bench, of a build whose only teacher is a student that was trained on it."""
    teacher = TeacherConfig.model_construct(
        model=f"{STUDENT}{trained.spec.model_dump_json()}",
        checkpoint=trained.weights,
        resolution=trained.spec.resolution,
    )
    own: dict[str, Any] = dict.fromkeys(("unfitted", "teacher", "crossfit", "ensemble", "choice"))
    return replace(bench, config=bench.config.model_copy(update={"teacher": teacher, "teachers": ()}), **own)


def teacher_of_student(bench: Workbench) -> Teacher:
    """The teacher of such a bench."""
    config = bench.config.teacher
    spec = StudentSpec.model_validate_json(config.model.removeprefix(STUDENT))
    assert config.checkpoint is not None
    contract = bench.contract_of(spec)
    module = load_weights(spec, config.checkpoint, contract)
    key = digest([spec.model_dump(mode="json"), contract.computed, file_sha256(config.checkpoint)])
    parameters = sum(p.numel() for p in module.parameters())
    return Teacher(spec.label, module, contract, key, parameters, trained=True)
