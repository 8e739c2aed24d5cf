"""ExecuTorch programs (.pte) from the torch program, and the parts of that which quantisation shares.

The file takes `image` as uint8 [1, 3, R, R] and casts it in front of the delegate; it gives `logits` as float32
[1, classes] at every precision. Contract, labels, scheme and the build's hash are constant methods: `execute` one by the
name of its key in any of ExecuTorch's languages and it returns the text.

executorch is imported inside functions: it takes seconds and is an extra.
"""

from __future__ import annotations

import importlib
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.artifacts import ExportedModel, TensorSignature
from edgedistill.errors import MissingDependencyError, UnsupportedError
from edgedistill.export.carried import carried_entries
from edgedistill.export.coreml import DEPLOYMENT_TARGET, import_coremltools
from edgedistill.export.coreml import quiet as without_progress_bars
from edgedistill.export.executorch_passes import compute_in_half, own_copy, take_uint8
from edgedistill.export.executorch_rewrites import rewrite_for_xnnpack
from edgedistill.export.quiet import quiet
from edgedistill.specs import Contract, Format, Precision, QuantScheme
from edgedistill.store import file_sha256, size_bytes, write_atomic

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_DYNAMIC = (Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
_EDGE_CAST = "dim_order_ops._to_dim_order_copy.default"
_OPERATION = re.compile(r"\b(?:aten|quantized_decomposed|torchao|dim_order_ops|higher_order)[.:]+\w+(?:[.:]+\w+)*")


class Delegate(StrEnum):
    """Who computes the parts of a program that it can take; the rest is left to ExecuTorch's portable kernels.

    - `xnnpack`: any CPU.
    - `coreml`: Apple devices from iOS 17; needs coremltools to lower, and the Core ML backend in the app. coremltools puts
      random identifiers into its part, so that two files of one program differ.
    """

    XNNPACK = "xnnpack"
    COREML = "coreml"


def import_executorch(module: str) -> Any:
    """A module of executorch, imported without its chatter. Raises MissingDependencyError with the line that installs it."""
    try:
        with quiet():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "executorch":
            raise
        raise MissingDependencyError(
            "ExecuTorch programs need executorch, which is not installed", fix='pip install "edgedistill[executorch]"'
        ) from None


def export_executorch(
    program: ExportedProgram,
    contract: Contract,
    path: Path,
    precision: Precision,
    *,
    build_hash: str,
    delegate: Delegate = Delegate.XNNPACK,
) -> ExportedModel:
    """`program` (see `to_program`; not changed) as a file at `path` (`.pte`), computing in fp32 or fp16. With XNNPACK
    the same program gives the same bytes.

    fp16 is the arithmetic's: XNNPACK keeps the weights of convolutions as fp32 in the file and rounds them when it loads
    it, which needs a CPU with half-precision arithmetic (ARMv8.2, or x86 with F16C).

    Raises UnsupportedError, naming the operation, where ExecuTorch has no form for it, and for precisions that need
    calibration; MissingDependencyError without executorch or the delegate's tools.
    """
    if precision not in (Precision.FP32, Precision.FP16):
        raise UnsupportedError(
            f"export_executorch converts to fp32 and fp16 only, not {precision}",
            fix="use quantize_executorch, which calibrates activations",
        )
    return lower_and_write(
        program, contract, path, QuantScheme(precision=precision), build_hash=build_hash, delegate=delegate
    )


def lower_and_write(
    program: ExportedProgram,
    contract: Contract,
    path: Path,
    scheme: QuantScheme,
    *,
    build_hash: str,
    delegate: Delegate = Delegate.XNNPACK,
) -> ExportedModel:
    """Lower any program of the contract, quantised or not (not changed), and write it whole or not at all."""
    import torch

    if path.suffix != ".pte":
        raise ValueError(f"an ExecuTorch program ends in .pte, not {path.name}")
    half = scheme.precision is Precision.FP16
    own = own_copy(program)
    if delegate is Delegate.XNNPACK:
        rewrite_for_xnnpack(own)
    # Core ML chooses its own precision when it converts.
    in_half = half and delegate is Delegate.XNNPACK
    take_uint8(own, torch.float16 if in_half else torch.float32)
    if in_half:
        compute_in_half(own)
    own.graph.lint()
    own.graph_module.recompile()
    write_atomic(
        path, _lower(own, carried_entries(contract, scheme, build_hash), _partitioners(delegate, scheme.precision))
    )
    side = contract.resolution
    return ExportedModel(
        path=path,
        format=Format.EXECUTORCH,
        scheme=scheme,
        inputs=(TensorSignature(name=contract.input_name, dtype="uint8", shape=(1, 3, side, side)),),
        outputs=(TensorSignature(name=contract.output_name, dtype="float32", shape=(1, len(contract.labels))),),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


def _lower(program: ExportedProgram, entries: dict[str, str], partitioners: list[Any]) -> bytes:
    exir = import_executorch("executorch.exir")
    try:
        with quiet(), without_progress_bars():
            edge = exir.to_edge_transform_and_lower(program, partitioner=partitioners, constant_methods=entries)
            return bytes(edge.to_executorch().buffer)
    except Exception as error:  # the vendor raises whatever its passes stumble over
        raise UnsupportedError(
            f"ExecuTorch cannot lower the model: {_reason(error)}",
            fix="replace that operation in the model, or leave executorch out of [export] formats",
        ) from error


def _partitioners(delegate: Delegate, precision: Precision) -> list[Any]:
    """Those that take their parts of a program, one after the other."""
    if delegate is Delegate.XNNPACK:
        partitioner = import_executorch("executorch.backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner
        if precision not in _DYNAMIC:
            return [partitioner()]
        kinds = import_executorch("executorch.backends.xnnpack.partition.config.xnnpack_config").ConfigPrecisionType
        # Beside additions and products in one part, XNNPACK refuses a convolution of dynamic scales when it runs.
        return [partitioner(config_precisions=kinds.DYNAMIC_QUANT, per_op_mode=True), partitioner()]
    ct = import_coremltools()
    try:
        partition = import_executorch("executorch.backends.apple.coreml.partition")
        backend = import_executorch("executorch.backends.apple.coreml.compiler").CoreMLBackend
    except ImportError as error:
        raise MissingDependencyError(
            f"ExecuTorch's Core ML delegate cannot be used here: {error}",
            fix="lower on macOS or on Linux for x86-64, or take the delegate xnnpack",
        ) from error
    options = backend.generate_compile_specs(
        compute_precision=ct.precision.FLOAT16 if precision is Precision.FP16 else ct.precision.FLOAT32,
        minimum_deployment_target=getattr(ct.target, DEPLOYMENT_TARGET),
    )
    # Core ML has no uint8 tensors: the cast stays outside.
    return [partition.CoreMLPartitioner(compile_specs=options, skip_ops_for_coreml_delegation=[_EDGE_CAST])]


def _reason(error: BaseException) -> str:
    """The first line of the innermost message, with the operation that any of the messages names."""
    messages = []
    current: BaseException | None = error
    while current is not None:
        messages.append(str(current))
        current = current.__cause__
    line = next((line.strip() for line in messages[-1].splitlines() if line.strip()), type(error).__name__)
    operations = dict.fromkeys(found for message in messages for found in _OPERATION.findall(message))
    missing = [operation for operation in operations if operation not in line]
    return line + (f" (operations named: {', '.join(missing[:5])})" if missing else "")
