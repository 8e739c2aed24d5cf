"""LiteRT on the CPU with XNNPACK: the file is the exported model itself, checked; it runs here and on every device with a
CPU, Android's in the first place.

No file reaches the native interpreter before `read_file` has read it whole: the interpreter follows what a file says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import InputError, Problem, UnsupportedError
from edgedistill.base.machine import usable_cpus
from edgedistill.base.quiet import native_quiet
from edgedistill.base.store import copy_atomic, tool_version
from edgedistill.devices.session import MeasurementProtocol
from edgedistill.devices.sessions import profile_file
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection
from edgedistill.documents.measurements import Fallbacks, Profile
from edgedistill.documents.package import TensorEdge
from edgedistill.documents.specs import ComputedBy, Contract, Format, QuantScheme, Target
from edgedistill.formats.carried import carried_contract, carried_probabilities
from edgedistill.formats.format import Conversion, ModelFormat, ModelMetadata, Opened, counted, signature_problems
from edgedistill.formats.litert.file import LiteRTFile, Operator, read_file
from edgedistill.formats.litert.packages import import_litert
from edgedistill.formats.running import fitting, over_threads

_DELEGATE = "DELEGATE"
_INTERPRETERS_BYTES = 2**30
"""The files of all interpreters that run at once take no more than this, unless one alone does."""


class LiteRTFormat(ModelFormat):
    """LiteRT, by its interpreter with XNNPACK."""

    format = Format.LITERT
    suffixes = (".tflite",)
    computed_by = ComputedBy.DEVICE
    distribution = "ai-edge-litert"
    has_metadata = True
    tools = ("litert-torch", "ai-edge-litert", "ai-edge-quantizer", "torch")
    native = ("ai-edge-litert",)
    on_device = Path(__file__).with_name("on_device.py")

    @property
    def here(self) -> str:
        """The same, by LiteRT with XNNPACK."""
        return f"{super().here} (LiteRT with XNNPACK)"

    def loaded_before(self, scheme: QuantScheme) -> tuple[str, ...]:
        """The converter and the quantiser."""
        return ("litert_torch",) if scheme.floating else ("litert_torch", "ai_edge_quantizer.quantizer")

    def convert(self, what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
        """Floating point from the torch program, integers from the module."""
        if scheme.floating:
            from edgedistill.formats.litert.export import export_litert

            return export_litert(what.program(), what.contract, path, scheme.precision, build_hash=what.build_hash)
        from edgedistill.formats.litert.quantize import quantize_litert

        return quantize_litert(
            what.module(), what.calibration(), what.contract, scheme, path, build_hash=what.build_hash
        )

    def open(self, path: Path, target: Target) -> Opened:
        """A file with its contract."""
        entries = read_file(path).entries
        return Opened(self.adopt(path, target), carried_contract(entries, path), carried_probabilities(entries, path))

    def input_edge(self, contract: Contract) -> TensorEdge:
        """uint8 with the channels last."""
        side = contract.resolution
        return TensorEdge(dtype="uint8", layout="NHWC", shape=(1, side, side, 3))

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """A file of another format, a target that does not take this one, custom operators, and operators for which this
        LiteRT has no kernel of the version asked for. Raises InputError for a damaged file."""
        return self.not_for(model, target) or _missing_kernels(model.path, read_file(model.path))

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """Check the file (structure, signature as the exporter stated it, kernels, a load) and copy it into `folder`, whole
        or not at all. The record says what XNNPACK computes here. Raises UnsupportedError with every problem found,
        InputError for a damaged file."""
        problems = self.unsupported(model, target) or signature_problems(model, *read_file(model.path).signature())
        if problems:
            raise UnsupportedError(f"{model.path.name} cannot be used with LiteRT", problems=problems)
        final = folder / model.path.name
        copy_atomic(model.path, final)
        return self._described(final, model.scheme, target, read_file(final))

    def adopt(self, path: Path, target: Target) -> CompiledArtifact:
        """Any LiteRT file as an artifact, where it lies; its precision is read off its tensors. Raises InputError if it is
        not a file that LiteRT takes."""
        file = read_file(path)
        if problems := _missing_kernels(path, file):
            raise InputError(f"{path} is not a file that LiteRT can run", problems=problems)
        return self._described(path, file.scheme(path), target, file)

    def _described(self, path: Path, scheme: QuantScheme, target: Target, file: LiteRTFile) -> CompiledArtifact:
        taken, left = _taken_and_left(path, file)
        record = {"operators": counted(file.operators)} | _kernels(taken, left)
        return self.artifact(path, scheme, target, record, _fallbacks(taken, left))

    def with_metadata(self, artifact: CompiledArtifact, metadata: ModelMetadata, folder: Path) -> CompiledArtifact:
        """As TFLite Metadata."""
        from edgedistill.formats.litert.export import litert_with_metadata

        return self.artifact_at(artifact, litert_with_metadata(artifact.path, metadata, folder / artifact.path.name))

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits of each batch. The shipped graphs take one image at a time, so the images of a batch are spread over
        threads, each with an interpreter of one thread: the result does not depend on the number of cores. Raises
        InputError for a damaged file, UnsupportedError for one that does not take uint8 images in NHWC."""
        shape = _image_shape(artifact.path, read_file(artifact.path))
        copies = max(1, min(usable_cpus(), _INTERPRETERS_BYTES // artifact.bytes))
        free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(copies):
            free.put(_load(artifact.path))

        def infer(images: Images) -> Logits:
            interpreter = free.get()
            try:
                return _infer(interpreter, images)
            finally:
                free.put(interpreter)

        fit = fitting(batches, (shape[3], shape[1], shape[2]), artifact.path.name)
        return over_threads(infer, fit, copies, shape[0])

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """Sessions of the device's agent, which loads this very file."""
        name = "" if inputs is None else read_file(artifact.path).signature()[0][0].name
        return profile_file(artifact, self.on_device, None if inputs is None else _to_nhwc(inputs), name, protocol)

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Structure and load, then what the graph holds and what XNNPACK takes of it on this machine. Raises InputError for
        a damaged file."""
        file = read_file(artifact.path)
        problems = _missing_kernels(artifact.path, file)
        loads = f"does not load it: {problems[0].what}" if problems else "loads it"
        inputs, outputs = file.signature()
        seen = Inspection(
            checks=(
                "the flatbuffer was read whole: offsets, indices, constants and tensors are in bounds",
                f"LiteRT {tool_version('ai-edge-litert')} {loads}",
            ),
            inputs=inputs,
            outputs=outputs,
            operations=dict(file.operators),
            layers=tuple(file.layers()),
            bytes_by_part={
                "weights": file.constant_bytes,
                "metadata": file.metadata_bytes,
                "graph": file.file_bytes - file.constant_bytes - file.metadata_bytes,
            },
            facts={"metadata": ", ".join(sorted(file.entries))},
        )
        if problems:
            return seen
        taken, left = _taken_and_left(artifact.path, file)
        update = {"facts": seen.facts | _kernels(taken, left), "fallbacks": _fallbacks(taken, left)}
        return seen.model_copy(update=update)


def _taken_and_left(path: Path, file: LiteRTFile) -> tuple[Counter[str], Counter[str]]:
    """The main graph's operators that XNNPACK computes on this machine, and those left to LiteRT's own kernels."""
    taken = _delegated(_load(path), file)
    return taken, Counter(operator.name for operator in file.main.operators) - taken


def _fallbacks(taken: Counter[str], left: Counter[str]) -> Fallbacks:
    """One CAST of those left is no fallback: it makes floats of the uint8 image."""
    slow = left - Counter({"CAST": 1})
    return Fallbacks(by="XNNPACK", operations=taken.total() + slow.total(), elsewhere=dict(slow))


def _kernels(taken: Counter[str], left: Counter[str]) -> dict[str, str]:
    return {"xnnpack_operators": counted(taken) or "none", "other_operators": counted(left) or "none"}


def _delegated(interpreter: Any, file: LiteRTFile) -> Counter[str]:
    """The main graph's operators that a delegate computes: those between its node's outputs and inputs."""
    makers = {index: operator for operator in file.main.operators for index in operator.outputs}
    taken: dict[int, Operator] = {}
    for node in interpreter._get_ops_details():
        if node["op_name"] != _DELEGATE:
            continue
        ends = {int(index) for index in node["inputs"]}
        open_ends = [int(index) for index in node["outputs"]]
        while open_ends:
            index = open_ends.pop()
            maker = makers.get(index)
            if maker is None or index in ends or id(maker) in taken:
                continue
            taken[id(maker)] = maker
            open_ends += maker.inputs
    return Counter(operator.name for operator in taken.values())


# -- running ----------------------------------------------------------------------------------------------------


def _load(path: Path) -> Any:
    """An Interpreter of one thread with its default delegate, its tensors allocated. The file has been read by `read_file`.
    Raises UnsupportedError where LiteRT refuses it."""
    interpreter_class = import_litert("ai_edge_litert.interpreter").Interpreter
    try:
        with native_quiet():  # the first in a process tells the terminal that XNNPACK is there
            interpreter = interpreter_class(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UnsupportedError(
            f"LiteRT {tool_version('ai-edge-litert')} does not load {path.name}: {_reason(error)}",
            fix="export it again, or with another precision",
        ) from error
    return interpreter


def _reason(error: Exception) -> str:
    """What the interpreter's C++ says, in one line: each of its layers appends a line of its own."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return "; ".join(line for line in lines if line and line != "Registration failed") or type(error).__name__


def _infer(interpreter: Any, images: Images) -> Logits:
    """Logits of as many images [b, 3, R, R] as the graph takes at once."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], _to_nhwc(images))
    interpreter.invoke()
    logits: Logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(np.float32)
    return logits.reshape(len(images), -1)


def _to_nhwc(images: Images) -> Images:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _image_shape(path: Path, file: LiteRTFile) -> tuple[int, ...]:
    """The shape of the one input. Raises UnsupportedError for a file that does not take uint8 images as ours do."""
    inputs, _ = file.signature()
    shape = inputs[0].shape if len(inputs) == 1 and inputs[0].dtype == "uint8" else ()
    if len(shape) != 4 or min(shape) < 1:
        taken = "; ".join(tensor.shown for tensor in inputs) or "nothing"
        raise UnsupportedError(
            f"{path.name} takes {taken}, not uint8 images [1, R, R, 3]", fix="profile it with inputs of its own"
        )
    return shape


# -- checking ---------------------------------------------------------------------------------------------------


def _missing_kernels(path: Path, file: LiteRTFile) -> tuple[Problem, ...]:
    """Operators that this LiteRT cannot run, and what else keeps it from loading the file."""
    if custom := file.custom_operators:
        return tuple(
            Problem(
                f"{path.name}: {count} x {name}",
                f"LiteRT {tool_version('ai-edge-litert')} has no kernel for this custom operator",
                "replace the operator in the model, or run it in an app that registers its kernel",
            )
            for name, count in sorted(custom.items())
        )
    try:
        _load(path)
    except UnsupportedError as refusal:
        return (Problem(str(path), refusal.message, refusal.fix),)
    return ()


FORMAT = LiteRTFormat
