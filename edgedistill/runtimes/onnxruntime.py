"""ONNX Runtime on the CPU: the file is the exported model itself, checked; it runs here and on every device with a CPU."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.artifacts import CompiledArtifact, ExportedModel, Profile, TensorSignature
from edgedistill.errors import InputError, Problem, UnsupportedError
from edgedistill.runtimes.base import Images, Inspection, Logits, MeasurementProtocol, SessionJob
from edgedistill.runtimes.sessions import take_profile
from edgedistill.specs import ComputedBy, Format, Precision, QuantScheme, Target
from edgedistill.store import file_sha256, size_bytes, sync_folder, tool_version

_INT8_OPERATORS = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
_TOOLS = ("onnx", "onnxruntime")


class OnnxRuntime:
    """Runtime of Format.ONNX."""

    format = Format.ONNX
    computed_by = ComputedBy.DEVICE

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """Operators (by domain and opset) for which this ONNX Runtime has no CPU kernel, and weights kept outside the file.
        Types are not looked at: `compile` loads the model, and that fails where a type has no kernel."""
        if model.format is not Format.ONNX:
            return (Problem(str(model.path), f"is {model.format}, not onnx", "export it as onnx"),)
        graph_file = _read(model.path)
        opsets = {entry.domain: entry.version for entry in graph_file.opset_import}
        problems = [
            Problem(
                f"{model.path.name}: {count} x {domain + '.' if domain else ''}{operator}",
                f"ONNX Runtime {tool_version('onnxruntime')} has no CPU kernel for it at opset {opsets.get(domain, '?')}",
                "export with another opset, or replace the operator in the model",
            )
            for (domain, operator), count in sorted(_operators(graph_file.graph).items())
            if not _has_kernel(domain, operator, opsets.get(domain, 1))
            and (domain, operator) not in {(f.domain, f.name) for f in graph_file.functions}
        ]
        if _has_external_weights(graph_file):
            problems.append(Problem(str(model.path), "keeps weights in a second file", "export with weights inside"))
        return tuple(problems)

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """Check the model (onnx.checker, signature as the exporter stated it, kernels, a load) and copy it into `folder`.
        Raises UnsupportedError with every problem found."""
        problems = [*_check(model.path), *_signature_problems(model)] or [*self.unsupported(model, target)]
        if not problems:
            problems = [*_load_problems(model.path)]
        if problems:
            raise UnsupportedError(f"{model.path.name} cannot be used with ONNX Runtime", problems=problems)
        final = folder / model.path.name
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{model.path.name}.{os.getpid()}.tmp"
        try:
            shutil.copyfile(model.path, part)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(final)
            sync_folder(folder)
        finally:
            part.unlink(missing_ok=True)
        return _artifact(final, model.scheme, target.name)

    def adopt(self, path: Path, target: Target) -> CompiledArtifact:
        """Any ONNX file as an artifact, where it lies; its precision is read off its operators and weights. Raises
        InputError if it is not a file that ONNX accepts."""
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InputError(f"{path} {what}", fix="name an .onnx file")
        problems = _check(path)
        if problems:
            raise InputError(f"{path} is not a valid ONNX model", problems=problems)
        return _artifact(path, QuantScheme(precision=_precision(_read(path))), target.name)

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits of each batch. The shipped graphs take one image at a time, so the images of a batch are spread over
        threads, each running a session of one thread: on small models this beats threads inside an operator by far, and
        the result does not depend on the number of cores."""
        session = _session(artifact.path)
        signature = session.get_inputs()[0]
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        fixed = signature.shape[0] if isinstance(signature.shape[0], int) else None

        def infer(images: Images) -> Any:
            return session.run(None, {signature.name: images})[0]

        return _spread_over_threads(infer, batches, workers, fixed)

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """Sessions of the device's agent, which loads this very file. See take_profile for pauses and repeats."""
        with tempfile.TemporaryDirectory(prefix="edgedistill-inputs-") as folder:
            inputs_file = None
            input_name = ""
            if inputs is not None:
                inputs_file = Path(folder) / "inputs.npy"
                np.save(inputs_file, inputs, allow_pickle=False)
                input_name = _session(artifact.path).get_inputs()[0].name
            job = SessionJob(
                model=artifact.path.absolute(),
                inputs=inputs_file,
                input_name=input_name,
                input_shapes=dict(protocol.input_shapes),
                threads=protocol.target.threads,
                max_samples=protocol.max_samples,
                max_seconds=protocol.max_seconds,
                min_samples=protocol.min_samples,
            )
            return take_profile(artifact, job, protocol)

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Checker and load, with signature, operators, opsets and metadata as facts."""
        problems = [*_check(artifact.path)]
        checks = ["onnx.checker accepts the file" if not problems else f"onnx.checker: {problems[0].what}"]
        if problems:
            return Inspection(checks=tuple(checks), facts={})
        graph_file = _read(artifact.path)
        load_problems = _load_problems(artifact.path)
        version = tool_version("onnxruntime")
        checks.append(
            f"ONNX Runtime {version} does not load it: {load_problems[0].what}"
            if load_problems
            else f"ONNX Runtime {version} loads it on the CPU"
        )
        unchanged = file_sha256(artifact.path) == artifact.sha256
        checks.append(
            "the file is unchanged since it was made" if unchanged else "the file was changed after it was made"
        )
        facts = {
            "precision": _precision(graph_file).value,
            "operators": _listed(Counter(op for (_, op), n in _operators(graph_file.graph).items() for _ in range(n))),
            "opsets": _listed({entry.domain or "ai.onnx": entry.version for entry in graph_file.opset_import}),
            "producer": f"{graph_file.producer_name} {graph_file.producer_version}".strip(),
            "metadata": ", ".join(sorted(entry.key for entry in graph_file.metadata_props)),
        }
        if not load_problems:
            inputs, outputs = _signature(_session(artifact.path))
            facts["inputs"] = "; ".join(_shown(tensor) for tensor in inputs)
            facts["outputs"] = "; ".join(_shown(tensor) for tensor in outputs)
        return Inspection(checks=tuple(checks), facts=facts)


def _artifact(path: Path, scheme: QuantScheme, target: str) -> CompiledArtifact:
    return CompiledArtifact(
        path=path,
        format=Format.ONNX,
        scheme=scheme,
        target=target,
        toolchain={name: tool_version(name) for name in _TOOLS},
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


# -- running ----------------------------------------------------------------------------------------------------


def _session(path: Path) -> Any:
    """An InferenceSession of one thread."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _spread_over_threads(
    infer: Callable[[Images], Any], batches: Iterable[Images], workers: int, fixed: int | None
) -> Iterator[Logits]:
    """`infer` over pieces of each batch: of `fixed` images where the graph's batch is fixed, else one piece a worker."""
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            size = fixed or max(1, -(-len(batch) // workers))
            if fixed and len(batch) % fixed:
                raise UnsupportedError(f"the graph takes {fixed} images at a time; a batch has {len(batch)}")
            images = np.ascontiguousarray(batch)
            pieces = pool.map(infer, [images[i : i + size] for i in range(0, len(images), size)])
            yield np.concatenate(list(pieces)).astype(np.float32, copy=False)


# -- reading ----------------------------------------------------------------------------------------------------


def _read(path: Path) -> Any:
    import onnx

    return onnx.load(str(path), load_external_data=False)


def _check(path: Path) -> list[Problem]:
    """What onnx.checker has to say. It is given the path, since a model in memory is limited to 2 GiB."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        onnx.checker.check_model(str(path))
        # The checker's C++ reader takes some truncated files for empty models.
        if not _read(path).graph.node:
            return [Problem(str(path), "holds no operators", "export it again")]
    except (onnx.checker.ValidationError, DecodeError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        return [Problem(str(path), first_line or "cannot be parsed", "export it again")]
    return []


def _load_problems(path: Path) -> list[Problem]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    refusals = tuple(v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception))
    try:
        _session(path)
    except refusals as error:
        return [Problem(str(path), str(error).partition("\n")[0], "export with another precision or opset")]
    return []


def _operators(graph: Any) -> Counter[tuple[str, str]]:
    """Nodes by (domain, operator), those of subgraphs included."""
    counts: Counter[tuple[str, str]] = Counter()
    for node in graph.node:
        counts[("" if node.domain == "ai.onnx" else node.domain, node.op_type)] += 1
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                counts += _operators(inner)
    return counts


def _has_kernel(domain: str, operator: str, opset: int) -> bool:
    """Whether the CPU provider has a kernel of this operator for the version that `opset` means, or can expand it."""
    import onnx
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    version = opset
    if onnx.defs.has(operator, max_inclusive_version=opset, domain=domain):
        schema: Any = onnx.defs.get_schema(operator, max_inclusive_version=opset, domain=domain)
        if schema.has_function or schema.has_context_dependent_function:
            return True
        version = schema.since_version
    return any(
        kernel.op_name == operator
        and kernel.domain == domain
        and kernel.version_range[0] <= version
        and version <= kernel.version_range[1]
        for kernel in state.get_all_opkernel_def()
    )


def _has_external_weights(graph_file: Any) -> bool:
    import onnx

    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph_file.graph.initializer)


def _precision(graph_file: Any) -> Precision:
    """int8 if the graph quantises, fp16 if it holds half-precision weights, else fp32."""
    import onnx

    if any(operator in _INT8_OPERATORS for _, operator in _operators(graph_file.graph)):
        return Precision.INT8
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph_file.graph.initializer)
    return Precision.FP16 if half else Precision.FP32


def _signature(session: Any) -> tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]:
    """Inputs and outputs with numpy's names of dtypes; an open dimension is -1."""
    kinds = {"float": "float32", "double": "float64"}

    def signature(node: Any) -> TensorSignature:
        kind = re.sub(r"^tensor\((.*)\)$", r"\1", node.type)
        shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
        return TensorSignature(name=node.name, dtype=kinds.get(kind, kind), shape=shape)

    return tuple(map(signature, session.get_inputs())), tuple(map(signature, session.get_outputs()))


def _signature_problems(model: ExportedModel) -> list[Problem]:
    """Where the file's inputs and outputs are not those that the exporter stated."""
    if _load_problems(model.path):
        return []
    found_inputs, found_outputs = _signature(_session(model.path))
    return [
        Problem(
            f"{model.path.name}: {kind}",
            f"the file has {', '.join(map(_shown, found)) or 'none'}; stated were {', '.join(map(_shown, stated))}",
            "export it again",
        )
        for kind, found, stated in (
            ("inputs", found_inputs, model.inputs),
            ("outputs", found_outputs, model.outputs),
        )
        if found != stated
    ]


def _shown(tensor: TensorSignature) -> str:
    return f"{tensor.name} {tensor.dtype}{list(tensor.shape)}"


def _listed(values: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(values.items()))
