"""How large the images of a teacher are, told without its weights."""

from __future__ import annotations

from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.distill.teachers.load import resolution_of
from edgedistill.distill.teachers.places import onnx_path, outputs_path
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.formats.foreign import reading
from edgedistill.formats.onnx.classifier import read_classifier


def teacher_side(config: TeacherConfig, classes: int, base: Path) -> int:
    """The side of its input in pixels, 0 for a file of outputs. Raises InputError."""
    if outputs_path(config.model, base) is not None:
        return 0
    path = onnx_path(config.model, base)
    if path is None:
        return resolution_of(config, classes, base)
    side = reading(path, read_classifier, path).side
    if side is not None and config.resolution not in (None, side):
        raise InputError(
            f"[teacher] resolution is {config.resolution}, and {path} takes {side} x {side} pixels",
            fix=f"leave resolution out, or write {side}",
        )
    found = side or config.resolution
    if found is None:
        raise InputError(f"{path} takes images of any size", fix="add resolution = PIXELS to [teacher]")
    return found
