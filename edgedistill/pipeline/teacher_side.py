"""How large the images of a teacher are, and its vectors, told without its weights."""

from __future__ import annotations

from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.distill.teachers.load import dimension_of, resolution_of
from edgedistill.distill.teachers.outputs_file import dimension_in
from edgedistill.distill.teachers.places import onnx_path, outputs_path
from edgedistill.documents.specs import LEAST_DIMENSION, MOST_DIMENSION
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.formats.foreign import reading
from edgedistill.formats.onnx.classifier import read_classifier


def teacher_dimension(config: TeacherConfig, base: Path) -> int:
    """How many numbers its vectors have. Raises InputError, also where a contract has no room for them."""
    found = _dimension(config, base)
    if not LEAST_DIMENSION <= found <= MOST_DIMENSION:
        raise InputError(
            f"the teacher {config.model} gives vectors of {found:,} numbers, not of {LEAST_DIMENSION} to {MOST_DIMENSION:,}",
            fix="give a number for each dimension of an image's vector, and nothing else",
        )
    return found


def _dimension(config: TeacherConfig, base: Path) -> int:
    if (path := outputs_path(config.model, base)) is not None:
        return dimension_in(path)
    if (path := onnx_path(config.model, base)) is None:
        return dimension_of(config, base)
    width = reading(path, read_classifier, path).width
    if width is None:
        raise InputError(f"{path} does not say how many numbers it gives", fix="export it with outputs [1, D]")
    return width


def teacher_side(config: TeacherConfig, classes: int | None, base: Path) -> int:
    """The side of its input in pixels, 0 for a file of outputs. Without `classes` it has no classifier. Raises
    InputError."""
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
