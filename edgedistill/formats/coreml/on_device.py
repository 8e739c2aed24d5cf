"""Core ML by coremltools, for the measuring agent (`agent.py` says what such a file has), on a Mac here or elsewhere.

Needs coremltools, and Pillow for images. A package that was sent to a Mac comes as one file, a ZIP archive of its folder.
"""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

TITLE = "Core ML"
INSTALL = "on a Mac: pip install coremltools pillow"
TRACES = False

# ArrayFeatureType.ArrayDataType of a model's description, as far as NumPy has the type.
DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32"}


def describe() -> dict[str, str]:
    """The runtime's fields of `Environment`. Raises ImportError where coremltools is absent or has no Core ML under it."""
    import coremltools
    import PIL.Image  # noqa: F401
    from coremltools.models import model

    if model._MLModelProxy is None:
        raise ImportError(f"Core ML runs on macOS only, and this is {platform.system()}")
    system = f"macOS {platform.mac_ver()[0]}"
    version = f"{system}, coremltools {coremltools.__version__}"
    return {"runtime": "Core ML", "runtime_version": version, "provider": "all compute units"}


def errors() -> tuple[type[Exception], ...]:
    """RuntimeError, whatever Core ML's reason; ValueError for values that do not fit; the others for a package that cannot
    be read."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    return (RuntimeError, ValueError, OSError, DecodeError)


def kind_of(error: Exception, stage: str) -> str:
    """The agent's kind for an error of the stage `load` or `run`."""
    return "inputs" if stage == "run" and isinstance(error, ValueError) else stage


class CoreMLModel:
    """A package on all compute units. An image goes in as a picture, uint8 [1, 3, H, W] before; arrays as they are. Both
    durations are Core ML's own, of its loading and of one prediction: what Python adds is not in them. Core ML chooses its
    threads itself."""

    def __init__(self, path: str, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        import coremltools

        self.details: dict[str, dict[str, Any]] = {}
        model = coremltools.models.MLModel(unpacked(path), compute_units=coremltools.ComputeUnit.ALL)
        if model.__proxy__ is None:
            raise RuntimeError(str(model._framework_error or "its specification is newer than this system"))
        self._model = model
        self._inputs = {one.name: one.type for one in model.get_spec().description.input}
        self.inputs = [(name, *described(kind, shapes.get(name))) for name, kind in self._inputs.items()]

    @property
    def load_ns(self) -> int:
        """How long Core ML took to load the compiled model. Compiling it is not in this: an app ships it compiled."""
        return int(self._model.load_duration_in_nano_seconds)

    @property
    def last_run_ns(self) -> int:
        """How long the last prediction took inside Core ML."""
        return int(self._model.last_predict_duration_in_nano_seconds)

    def feed(self, values: dict[str, Any]) -> dict[str, Any]:
        """Pictures for the inputs that are images."""
        return {
            name: picture(value) if self._inputs[name].HasField("imageType") else value
            for name, value in values.items()
        }

    def run(self, feed: dict[str, Any]) -> object:
        """All outputs."""
        return self._model.predict(feed)

    def operators(self, feed: object) -> list[list[tuple[str, str, float]]]:
        """None: Core ML estimates the share of an operation, and does not time it."""
        return []

    def fallbacks(self) -> dict[str, Any]:
        """The fields of `Fallbacks`: what Core ML means to compute on this machine's CPU."""
        try:
            return fallbacks_of(usages(self._model.get_compiled_model_path()))
        # A plan is told of, never needed, and Core ML's own reasons differ from system to system.
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            return {"by": BY, "unknown": f"Core ML gives no compute plan: {reason}"}


def unpacked(path: str) -> str:
    """The package's folder: `path` itself, or what the archive at `path` holds, beside it until this process ends."""
    if os.path.isdir(path):  # noqa: PTH112 (coremltools takes strings)
        return path
    folder = tempfile.mkdtemp(dir=os.path.dirname(path))  # noqa: PTH120
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    (name,) = os.listdir(folder)  # noqa: PTH208
    return os.path.join(folder, name)  # noqa: PTH118


def described(kind: Any, shape: Sequence[int] | None) -> tuple[str, list[int]]:
    """dtype and shape of an input by its FeatureType."""
    if kind.HasField("imageType"):
        return "uint8", [1, 3, kind.imageType.height, kind.imageType.width]
    array = kind.multiArrayType
    return DTYPES.get(array.dataType, f"ArrayDataType {array.dataType}"), list(shape or array.shape)


def picture(value: Any) -> Any:
    """uint8 [1, 3, H, W] as an RGB picture."""
    import numpy as np
    import PIL.Image

    return PIL.Image.fromarray(np.ascontiguousarray(value[0].transpose(1, 2, 0)))


BY = "Core ML on the Neural Engine or GPU"


def usages(compiled: str) -> list[tuple[str, str]]:
    """Each operation's name in a compiled model, and the class of the device that Core ML prefers for it on this Mac;
    constants have none. By the documented `coremltools.models.compute_plan` (coremltools 8 and newer, macOS 14.4 and
    newer)."""
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan

    plan = MLComputePlan.load_from_path(path=compiled, compute_units=coremltools.ComputeUnit.ALL)
    operations = plan.model_structure.program.functions["main"].block.operations
    found = [(op.operator_name, plan.get_compute_device_usage_for_mlprogram_operation(op)) for op in operations]
    return [(name, type(usage.preferred_compute_device).__name__) for name, usage in found if usage is not None]


def fallbacks_of(usages: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The fields of `Fallbacks`: what is left to the CPU. `usages` are names of operations with the class name of their
    device, as coremltools has them (`MLCPUComputeDevice`, `MLGPUComputeDevice`, `MLNeuralEngineComputeDevice`)."""
    elsewhere: dict[str, int] = {}
    for name, device in usages:
        if device == "MLCPUComputeDevice":
            short = name.rpartition(".")[2]
            elsewhere[short] = elsewhere.get(short, 0) + 1
    return {"by": BY, "operations": len(usages), "elsewhere": elsewhere}


load = CoreMLModel
