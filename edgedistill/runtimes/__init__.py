"""Runtimes: what makes, runs, measures and inspects an artifact of one format. `runtime_for` finds the one of a format."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from edgedistill.errors import InputError
from edgedistill.runtimes.base import Runtime
from edgedistill.specs import Format

ENTRY_POINTS = "edgedistill.runtimes"

_BUILT_IN = {
    Format.ONNX: EntryPoint("onnx", "edgedistill.runtimes.onnxruntime:OnnxRuntime", ENTRY_POINTS),
    Format.TENSORRT: EntryPoint("tensorrt", "edgedistill.runtimes.tensorrt:TensorRTRuntime", ENTRY_POINTS),
    Format.COREML: EntryPoint("coreml", "edgedistill.runtimes.coreml:CoreMLRuntime", ENTRY_POINTS),
    Format.LITERT: EntryPoint("litert", "edgedistill.runtimes.litert:LiteRTRuntime", ENTRY_POINTS),
    Format.EXECUTORCH: EntryPoint("executorch", "edgedistill.runtimes.executorch:ExecuTorchRuntime", ENTRY_POINTS),
    Format.NULL: EntryPoint("null", "edgedistill.runtimes.null:NullRuntime", ENTRY_POINTS),
}


def runtime_for(format: Format) -> Runtime:
    """A runtime for `format`, its file imported now and not before.

    An installed package takes a format over by an entry point of the group `edgedistill.runtimes` named after it: a class
    without arguments that has the five methods of Runtime. Raises InputError if two packages claim the same format.
    """
    claims = list(entry_points(group=ENTRY_POINTS, name=format.value))
    if len(claims) > 1:
        owners = ", ".join(sorted(claim.dist.name if claim.dist else claim.value for claim in claims))
        raise InputError(f"several packages provide a runtime for {format}: {owners}", fix="uninstall all but one")
    point = claims[0] if claims else _BUILT_IN[format]
    runtime: Runtime = point.load()()
    return runtime
