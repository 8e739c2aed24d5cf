"""From a torch program to ExecuTorch's bytes: which delegate takes which parts of it.

- XNNPACK and Core ML take parts of the one lowered program.
- Qualcomm's delegate has a lowering of its own, with passes before and between. It follows the documented interface of
  `executorch.backends.qualcomm` and has never run here: it needs Qualcomm's SDK.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from edgedistill.base.errors import InputError, MissingDependencyError, UnsupportedError
from edgedistill.base.quiet import quiet, quiet_import
from edgedistill.documents.specs import Delegate, Format, Precision
from edgedistill.formats.coreml_sdk import DEPLOYMENT_TARGET, import_coremltools
from edgedistill.formats.origin import translating

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_DYNAMIC = (Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
_EDGE_CAST = "dim_order_ops._to_dim_order_copy.default"
_QNN_SDK = "QNN_SDK_ROOT"


def import_executorch(module: str) -> Any:
    """A module of executorch, imported without its chatter. Raises MissingDependencyError with the line that installs it."""
    try:
        with quiet_import():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "executorch":
            raise
        raise MissingDependencyError(
            "ExecuTorch programs need executorch, which is not installed", fix='pip install "edgedistill[executorch]"'
        ) from None


def lower(
    program: ExportedProgram, entries: dict[str, str], precision: Precision, delegate: Delegate, soc: str
) -> bytes:
    """The bytes of a .pte file with `entries` as constant methods. Raises UnsupportedError with the operation that stands in
    the way, MissingDependencyError without the delegate's tools, InputError for a chip that it does not know."""
    if delegate is Delegate.QNN:
        make = _qnn(program, entries, precision, soc)
    else:
        partitioners = _partitioners(delegate, precision)
        lowering = import_executorch("executorch.exir").to_edge_transform_and_lower
        make = partial(lowering, program, partitioner=partitioners, constant_methods=entries)

    with translating("ExecuTorch", program, Format.EXECUTORCH), quiet():
        return bytes(make().to_executorch().buffer)


def _qnn(program: ExportedProgram, entries: dict[str, str], precision: Precision, soc: str) -> Callable[[], Any]:
    """How Qualcomm's delegate lowers a program for the neural processor of `soc`. Its fp16 alone: integers there need a
    quantiser of its own."""
    if precision is not Precision.FP16:
        raise UnsupportedError(
            f"Qualcomm's delegate is given fp16 here, not {precision}",
            fix='use precisions = ["fp16"], or the delegate xnnpack',
        )
    # Without the SDK, executorch would fetch one from the network without asking.
    if not os.environ.get(_QNN_SDK):
        raise MissingDependencyError(
            f"Qualcomm's delegate needs Qualcomm's AI Engine Direct SDK, and {_QNN_SDK} is not set",
            fix=f"install the SDK and set {_QNN_SDK} to its folder, or take the delegate xnnpack",
        )
    chips = import_executorch("executorch.backends.qualcomm.serialization.qc_schema").QcomChipset.__members__
    if soc not in chips:
        raise InputError(
            f"{soc!r} is no chip that Qualcomm's delegate knows", fix=f"set soc in the target to {', '.join(chips)}"
        )
    tools = import_executorch("executorch.backends.qualcomm.utils.utils")
    options = tools.generate_htp_compiler_spec(use_fp16=True)
    specs = tools.generate_qnn_executorch_compiler_spec(soc_model=chips[soc], backend_options=options)
    inputs = program.example_inputs[0] if program.example_inputs else ()

    def make() -> Any:
        return tools.to_edge_transform_and_lower_to_qnn(
            program.module(), inputs, specs, constant_methods=entries, skip_node_op_set={_EDGE_CAST}
        )

    return make


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
