"""ONNX Runtime on the CPU: the file is the exported model itself, checked; it runs here and on every device with a CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import InputError, Problem, TrialFailure, UnsupportedError, first_line
from edgedistill.base.machine import usable_cpus
from edgedistill.base.paths import require_file
from edgedistill.base.store import copy_atomic, tool_version
from edgedistill.devices.session import MeasurementProtocol
from edgedistill.devices.sessions import profile_file
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection, TensorSignature
from edgedistill.documents.measurements import Fallbacks, Profile
from edgedistill.documents.specs import ComputedBy, Format, Precision, QuantScheme, Target
from edgedistill.formats.carried import carried_contract, carried_probabilities, carried_scheme
from edgedistill.formats.format import Conversion, ModelFormat, ModelMetadata, Opened, RoofFile, signature_problems
from edgedistill.formats.onnx.checks import file_problems, kernel_problems, load_problems, refusals
from edgedistill.formats.onnx.content import layers, operators, tensor_bytes, tensors
from edgedistill.formats.onnx.on_device import dtype
from edgedistill.formats.onnx.session import PROVIDER, session
from edgedistill.formats.onnx_file import load
from edgedistill.formats.precisions import precision_of, settled_scheme
from edgedistill.formats.running import over_threads
from edgedistill.networks.rounding.damage import LayerDamage
from edgedistill.networks.tasks import task_of


class OnnxFormat(ModelFormat):
    """ONNX, by ONNX Runtime."""

    format = Format.ONNX
    suffixes = (".onnx",)
    computed_by = ComputedBy.DEVICE
    distribution = "onnxruntime"
    has_metadata = True
    tools = ("onnx", "onnxruntime", "onnxscript", "torch")
    native = ("onnx", "onnxruntime")
    on_device = Path(__file__).with_name("on_device.py")
    from_fp32 = True

    @property
    def here(self) -> str:
        """The same, by ONNX Runtime."""
        return f"{super().here} (ONNX Runtime)"

    def loaded_before(self, scheme: QuantScheme) -> tuple[str, ...]:
        """The exporter's modules and the quantiser's."""
        exporter = ("torch.onnx._internal.exporter._core", "onnxscript")
        return exporter if scheme.floating else (*exporter, "onnxruntime.quantization")

    def convert(self, what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
        """The fp32 file from the torch program, the others from that."""
        if scheme.precision is Precision.FP32:
            from edgedistill.formats.onnx.export import export_onnx

            return export_onnx(what.program(), what.contract, path, build_hash=what.build_hash)
        assert what.full is not None
        if scheme.precision is Precision.FP16:
            from edgedistill.formats.onnx.fp16 import to_fp16

            return to_fp16(what.full, path.parent)
        if scheme.integer:
            from edgedistill.formats.onnx.int8 import to_int8

            return to_int8(what.full, what.calibration(), scheme, path.parent, what.style)
        from edgedistill.formats.onnx.weights import to_int8_weights

        return to_int8_weights(what.full, scheme, path.parent)

    def damages(self, what: Conversion, scheme: QuantScheme) -> tuple[LayerDamage, ...]:
        """On the fp32 file, which is what is quantised."""
        from edgedistill.formats.onnx.sensitivity import rank_layers

        assert what.full is not None
        return rank_layers(what.full, what.calibration(), scheme, what.style, task_of(what.contract))

    def open(self, path: Path, target: Target) -> Opened:
        """A file with its contract."""
        from edgedistill.formats.onnx.metadata import read_metadata

        artifact = self.adopt(path, target)
        entries = read_metadata(load(path, weights=False))
        return Opened(artifact, carried_contract(entries, path), carried_probabilities(entries, path))

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """Operators (by domain and opset) for which this ONNX Runtime has no CPU kernel, and weights kept outside the file.
        Types are not looked at: `compile` loads the model, and that fails where a type has no kernel. Raises InputError for
        a file that cannot be read."""
        if model.format is not Format.ONNX:
            return (Problem(str(model.path), f"is {model.format}, not onnx", "export it as onnx"),)
        return tuple(kernel_problems(load(model.path, weights=False), model.path))

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """Check the model (onnx.checker, signature as the exporter stated it, kernels, a load) and copy it into `folder`.
        Raises UnsupportedError with every problem found."""
        problems = (
            file_problems(model.path)
            or [*self.unsupported(model, target)]
            or load_problems(model.path)
            or signature_problems(model, *_signature(session(model.path)))
        )
        if problems:
            raise UnsupportedError(f"{model.path.name} cannot be used with ONNX Runtime", problems=problems)
        final = folder / model.path.name
        copy_atomic(model.path, final)
        unknown = Fallbacks(by=target.accelerator, unknown="only a session on the device tells")
        fallbacks = unknown if target.accelerator else _assigned(final)
        return self.artifact(final, model.scheme, target, fallbacks=fallbacks)

    def adopt(self, path: Path, target: Target) -> CompiledArtifact:
        """Any ONNX file as an artifact, where it lies; its precision is read off its layers. Raises InputError
        if it is not a file that ONNX accepts, or says another precision than it has."""
        from edgedistill.formats.onnx.metadata import read_metadata

        require_file(path, "name an .onnx file")
        if problems := file_problems(path):
            raise InputError(f"{path} is not a valid ONNX model", problems=problems)
        model = load(path, weights=False)
        found = layers(model.graph)
        scheme = settled_scheme(carried_scheme(read_metadata(model), path), precision_of(found), found, path)
        return self.artifact(path, scheme, target)

    def with_metadata(self, artifact: CompiledArtifact, metadata: ModelMetadata, folder: Path) -> CompiledArtifact:
        """As entries of its metadata, by the names that Ultralytics gives them."""
        from edgedistill.formats.onnx.metadata import onnx_with_metadata

        return self.artifact_at(artifact, onnx_with_metadata(artifact.path, metadata, folder / artifact.path.name))

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits of each batch. The shipped graphs take one image at a time, so the images of a batch are spread over
        threads, each running a session of one thread: on small models this beats threads inside an operator by far, and
        the result does not depend on the number of cores. Raises UnsupportedError for a file that does not take one tensor
        of images, TrialFailure where ONNX Runtime refuses the file, or an image."""
        try:
            loaded = session(artifact.path)
        except refusals() as error:
            raise TrialFailure(
                f"ONNX Runtime does not load {artifact.path.name}: {first_line(error)}",
                fix="export it with another precision or opset",
            ) from error
        signatures = loaded.get_inputs()
        if len(signatures) != 1 or not signatures[0].shape:
            taken = ", ".join(tensor.shown for tensor in _signature(loaded)[0]) or "nothing"
            raise UnsupportedError(
                f"{artifact.path.name} takes {taken}, not one tensor of images", fix="export it with one input"
            )
        signature = signatures[0]
        fixed = signature.shape[0] if isinstance(signature.shape[0], int) else None

        def infer(images: Images) -> Any:
            try:
                output = loaded.run(None, {signature.name: images})[0]
            except refusals() as error:
                raise TrialFailure(
                    f"ONNX Runtime cannot run {artifact.path.name}: {first_line(error)}",
                    fix="export it again, for inputs of the size that it states",
                ) from error
            if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiu" or output.ndim == 0:
                raise UnsupportedError(
                    f"{artifact.path.name} gives no tensor of numbers",
                    fix="export it with its logits as the first output",
                )
            return output

        return over_threads(infer, batches, usable_cpus(), fixed)

    def roof_files(self, folder: Path) -> Mapping[str, RoofFile]:
        """Of its kernels on the CPU, in fp32 and int8."""
        # The builder of ONNX files takes a while to import.
        from edgedistill.formats.onnx.roof import roof_files

        return roof_files(folder)

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """Sessions of the device's agent, which loads this very file."""
        name = "" if inputs is None else session(artifact.path).get_inputs()[0].name
        return profile_file(artifact, self.on_device, inputs, name, protocol)

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Checker and load, then what the graph holds and which provider computes it."""
        if problems := file_problems(artifact.path):
            return Inspection(checks=(f"onnx.checker: {problems[0].what}",))
        model, problems = load(artifact.path, weights=False), load_problems(artifact.path)
        loads = f"does not load it: {problems[0].what}" if problems else "loads it on the CPU"
        seen = Inspection(
            checks=("onnx.checker accepts the file", f"ONNX Runtime {tool_version('onnxruntime')} {loads}"),
            operations=dict(Counter(op for (_, op), n in operators(model.graph).items() for _ in range(n))),
            layers=layers(model.graph),
            bytes_by_part=_parts(model, artifact.bytes),
            facts={
                "opsets": ", ".join(sorted(f"{e.domain or 'ai.onnx'} {e.version}" for e in model.opset_import)),
                "producer": f"{model.producer_name} {model.producer_version}".strip(),
                "metadata": ", ".join(sorted(entry.key for entry in model.metadata_props)),
            },
        )
        if problems:
            return seen
        inputs, outputs = _signature(session(artifact.path))
        return seen.model_copy(update={"inputs": inputs, "outputs": outputs, "fallbacks": _assigned(artifact.path)})


def _parts(model: Any, file_bytes: int) -> dict[str, int]:
    """Bytes of weights in the file, of its metadata, and of the rest."""
    weights = sum(tensor_bytes(tensor) for tensor in tensors(model) if tensor.data_location != tensor.EXTERNAL)
    metadata = sum(entry.ByteSize() for entry in model.metadata_props)
    return {"weights": weights, "metadata": metadata, "graph": file_bytes - weights - metadata}


def _assigned(path: Path) -> Fallbacks:
    """Which execution provider ONNX Runtime gives each node of a file that it loads to, as its session says."""
    loaded = session(path, {"session.record_ep_graph_assignment_info": "1"})
    if (assignment := getattr(loaded, "get_provider_graph_assignment_info", None)) is None:
        return Fallbacks(by=PROVIDER, unknown=f"ONNX Runtime {tool_version('onnxruntime')} does not tell, 1.24 does")
    nodes = [(part.ep_name, node.op_type) for part in assignment() for node in part.get_nodes()]
    elsewhere = Counter(f"{kind} ({provider})" for provider, kind in nodes if provider != PROVIDER)
    return Fallbacks(by=PROVIDER, operations=len(nodes), elsewhere=dict(elsewhere))


def _signature(loaded: Any) -> tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]:
    """Inputs and outputs with numpy's names of dtypes; an open dimension is -1."""

    def signature(node: Any) -> TensorSignature:
        shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
        return TensorSignature(name=node.name, dtype=dtype(node.type), shape=shape)

    return tuple(map(signature, loaded.get_inputs())), tuple(map(signature, loaded.get_outputs()))


FORMAT = OnnxFormat
