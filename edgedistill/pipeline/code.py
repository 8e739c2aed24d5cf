"""Which code each stage of a build runs: what its key hashes, with all that these modules import (base/source_code.py). And
the packages that a whole build depends on; a stage's are those of its format (`formats.tools_of`)."""

from __future__ import annotations

from edgedistill.base.versions import BUILD_TOOLS
from edgedistill.documents.specs import Format, Target
from edgedistill.formats import format_for, tools_of

SPACE = ("edgedistill.networks.space",)
TEACHER = ("edgedistill.distill.fit_teacher", "edgedistill.distill.teachers.load", "edgedistill.data.working")
COPIES = ("edgedistill.data.working", "edgedistill.data.folder", "edgedistill.data.huggingface")
TEACHER_FILE = ("edgedistill.formats.onnx.classifier", "edgedistill.data.preprocessing")
OUTPUTS = ("edgedistill.distill.teachers.outputs_file", "edgedistill.distill.stored.encoding")
ENSEMBLE = ("edgedistill.distill.evaluate", "edgedistill.distill.stored.mixing")
TRAINING = ("edgedistill.distill.train",)
TUNING = ("edgedistill.distill.under_rounding",)
REWRITING = ("edgedistill.networks.rounding.weights",)


def exporting(form: Format) -> tuple[str, ...]:
    """From a network to the portable file of a format."""
    return (
        format_for(format_for(form).portable).code,
        "edgedistill.networks.program.program",
        "edgedistill.data.calibration",
    )


def compiling(form: Format) -> tuple[str, ...]:
    """From that to the file that the format's runtime loads."""
    return (format_for(form).code,)


def verifying(form: Format) -> tuple[str, ...]:
    """A file's answers to the validation split."""
    return ("edgedistill.formats.running", format_for(form).code, "edgedistill.data.prepared")


def sampling(form: Format) -> tuple[str, ...]:
    """A session. What is made of its samples is no part of it."""
    return (
        "edgedistill.devices.agent",
        "edgedistill.devices.base",
        "edgedistill.devices.local",
        format_for(form).code,
    )


def climbing(form: Format) -> tuple[str, ...]:
    """The ladder of one format."""
    return ("edgedistill.selection.ladder", *exporting(form), *compiling(form))


def build_tools(target: Target) -> tuple[str, ...]:
    """The packages that a build for `target` depends on, with those of all its formats."""
    formats = (target.runtime, *target.formats)
    return tuple(sorted({*BUILD_TOOLS, *(tool for form in formats for tool in tools_of(form))}))
