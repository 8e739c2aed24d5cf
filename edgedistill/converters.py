"""From a network to one portable file: the exporter or quantiser of a format, run in a child process.

Vendors' converters are native code that may end in a crash; that fails the one file. A child is forked where it can be: it
starts with everything that is loaded here, so what a converter imports is imported before.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.export import ExportedProgram

from edgedistill.artifacts import ExportedModel
from edgedistill.errors import UnsupportedError
from edgedistill.exporters.quiet import quiet_import
from edgedistill.isolation import CONVERSION, in_child
from edgedistill.quantizers.onnx_static import IntegerStyle
from edgedistill.runtimes.base import Images
from edgedistill.specs import Contract, Delegate, Format, Precision, QuantScheme

SUFFIX = {
    Format.ONNX: ".onnx",
    Format.TENSORRT: ".onnx",
    Format.COREML: ".mlpackage",
    Format.LITERT: ".tflite",
    Format.EXECUTORCH: ".pte",
}
"""How the portable file of a format ends: an engine is built from an ONNX file."""

_FLOAT = (Precision.FP32, Precision.FP16)

_IMPORTS: dict[Format, tuple[str, ...]] = {
    Format.ONNX: ("torch.onnx._internal.exporter._core", "onnxscript"),
    Format.COREML: ("coremltools",),
    Format.LITERT: ("litert_torch",),
    Format.EXECUTORCH: ("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner"),
}
_QUANTISER_IMPORTS: dict[Format, tuple[str, ...]] = {
    Format.ONNX: ("onnxruntime.quantization",),
    Format.TENSORRT: ("onnxruntime.quantization",),
    Format.COREML: ("torchao.quantization.pt2e.quantize_pt2e",),
    Format.LITERT: ("ai_edge_quantizer.quantizer",),
    Format.EXECUTORCH: (
        "torchao.quantization.pt2e.quantize_pt2e",
        "executorch.backends.xnnpack.quantizer.xnnpack_quantizer",
    ),
}


@dataclass(frozen=True, eq=False)
class Conversion:
    """What a converter is given. `module` gives the deployed network and `program` its torch program; `calibration` gives
    uint8 images [n, 3, R, R]; `full` is the fp32 ONNX file, from which ONNX's other precisions are made; `style` lays out
    its integers; `delegate` and `soc` are the target's, for ExecuTorch."""

    contract: Contract
    build_hash: str
    module: Callable[[], nn.Module]
    program: Callable[[], ExportedProgram]
    calibration: Callable[[], Images]
    style: IntegerStyle
    delegate: Delegate = Delegate.XNNPACK
    soc: str = ""
    full: ExportedModel | None = None


def convert(what: Conversion, form: Format, scheme: QuantScheme, folder: Path) -> ExportedModel:
    """The file `folder/model*` of `form` in the precision of `scheme`, made in a child process. Raises UnsupportedError,
    TrialFailure (ChildFailure where the converter took its process down), MissingDependencyError."""
    for name in (
        *_IMPORTS.get(form, ()),
        *(_QUANTISER_IMPORTS.get(form, ()) if scheme.precision not in _FLOAT else ()),
    ):
        with (
            contextlib.suppress(ImportError),
            quiet_import(),
        ):  # the converter says what is missing, with the line that installs it
            importlib.import_module(name)
    return in_child(f"converting to {form} {scheme.label}", CONVERSION, _convert, what, form, scheme, folder)


def _convert(what: Conversion, form: Format, scheme: QuantScheme, folder: Path) -> ExportedModel:
    path = folder / f"model{SUFFIX[form]}"
    return {
        Format.ONNX: _onnx,
        Format.TENSORRT: _onnx,
        Format.COREML: _coreml,
        Format.LITERT: _litert,
        Format.EXECUTORCH: _executorch,
    }[form](what, scheme, path)


def _onnx(what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
    from edgedistill.exporters.onnx import export_onnx
    from edgedistill.quantizers.onnx_fp16 import to_fp16
    from edgedistill.quantizers.onnx_static import to_int8
    from edgedistill.quantizers.onnx_weights import to_int8_weights

    if scheme.precision is Precision.FP32:
        return export_onnx(what.program(), what.contract, path, build_hash=what.build_hash)
    assert what.full is not None
    if scheme.precision is Precision.FP16:
        return to_fp16(what.full, path.parent)
    if scheme.integer:
        return to_int8(what.full, what.calibration(), scheme, path.parent, what.style)
    if what.style is IntegerStyle.TENSORRT:
        raise UnsupportedError(f"there are no engines in {scheme.label} here", fix="use int8 or fp16")
    return to_int8_weights(what.full, scheme, path.parent)


def _coreml(what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
    from edgedistill.exporters.coreml import export_coreml
    from edgedistill.quantizers.coreml import compress_coreml, quantize_coreml

    if scheme.precision in _FLOAT:
        return export_coreml(what.program(), what.contract, path, scheme.precision, build_hash=what.build_hash)
    if not scheme.integer:
        return compress_coreml(what.program(), what.contract, path, scheme, build_hash=what.build_hash)
    model, _ = quantize_coreml(
        what.module(), what.calibration(), what.contract, scheme, path, build_hash=what.build_hash
    )
    return model


def _litert(what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
    if scheme.precision in _FLOAT:
        from edgedistill.exporters.litert import export_litert

        return export_litert(what.program(), what.contract, path, scheme.precision, build_hash=what.build_hash)
    from edgedistill.quantizers.litert import quantize_litert

    return quantize_litert(what.module(), what.calibration(), what.contract, scheme, path, build_hash=what.build_hash)


def _executorch(what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
    if scheme.precision in _FLOAT:
        from edgedistill.exporters.executorch import export_executorch

        return export_executorch(
            what.program(),
            what.contract,
            path,
            scheme.precision,
            build_hash=what.build_hash,
            delegate=what.delegate,
            soc=what.soc,
        )
    if what.delegate is not Delegate.XNNPACK:
        raise UnsupportedError(
            f"the delegate {what.delegate} is given floating point alone, not {scheme.label}",
            fix='use precisions = ["fp16"], or the delegate xnnpack',
        )
    from edgedistill.quantizers.executorch import quantize_executorch

    return quantize_executorch(
        what.module(), what.calibration(), what.contract, scheme, path, build_hash=what.build_hash
    )
