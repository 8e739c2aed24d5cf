"""Static int8 for ONNX files: scales from calibration images, quantise and dequantise nodes in the graph.

What a runtime makes of such a graph depends on where the pairs stand and which integer types they hold, so there is one
style a kind of runtime. ONNX Runtime fuses `DQ -> Conv -> Q` into QLinearConv when every operator's inputs and output have
a pair; TensorRT fuses `DQ -> Conv [-> activation, add]` when only inputs have one, and knows symmetric int8 alone.
"""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedistill.artifacts import ExportedModel
from edgedistill.errors import InputError
from edgedistill.export.metadata import load, read_metadata, write
from edgedistill.export.quiet import quiet
from edgedistill.specs import Precision, QuantScheme

if TYPE_CHECKING:
    from onnxruntime.quantization import QuantType  # type: ignore[import-untyped]


class IntegerStyle(StrEnum):
    """For whom the integers are laid out.

    - `x86`: ONNX Runtime's kernels take uint8 activations with a zero point and int8 weights there (vpdpbusd multiplies
      unsigned by signed). Weights keep all 8 bits: a CPU without VNNI can saturate, which the accuracy of the
      measured file shows.
    - `arm`: ONNX Runtime on ARM is fastest with int8 on both sides (sdot).
    - `tensorrt`: int8 on both sides, zero points 0, biases and outputs left in float.
    """

    X86 = "x86"
    ARM = "arm"
    TENSORRT = "tensorrt"

    @classmethod
    def for_onnxruntime(cls, machine: str) -> IntegerStyle:
        """The style for ONNX Runtime on `machine`, a name as `platform.machine()` gives it."""
        return cls.ARM if machine.lower().startswith(("arm", "aarch64")) else cls.X86


# What TensorRT computes in int8; everything between them fuses into them or stays in float.
_HEAVY = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def to_int8(
    model: ExportedModel,
    calibration: NDArray[np.uint8],
    scheme: QuantScheme,
    folder: Path,
    style: IntegerStyle = IntegerStyle.X86,
) -> ExportedModel:
    """`model` (fp32) with int8 weights and 8-bit activations, as `folder/<stem>.int8.onnx`.

    `calibration` are uint8 images [n, 3, R, R] from the *training* split; an activation's range is its smallest and largest
    value over all of them. Weights are symmetric, one scale an output channel if `scheme.per_channel`. The same
    model and images give the same bytes. The scheme returned states how many images were used.

    Raises InputError where the images do not fit the model.
    """
    expected = model.inputs[0].shape[1:]
    if (
        calibration.dtype != np.uint8
        or calibration.ndim != 4
        or calibration.shape[1:] != expected
        or not len(calibration)
    ):
        raise InputError(
            f"calibration images are {calibration.dtype} {calibration.shape}, {model.path.name} takes uint8 {expected}",
            fix="give at least one training image at the model's resolution",
        )
    with tempfile.TemporaryDirectory() as scratch, quiet():
        quantized = _quantize(model.path, calibration, scheme, Path(scratch), style)
    suffix = "int8-tensorrt" if style is IntegerStyle.TENSORRT else "int8"
    path = folder / f"{model.path.stem.removesuffix('.fp32')}.{suffix}.onnx"
    used = scheme.model_copy(update={"precision": Precision.INT8, "calibration_images": len(calibration)})
    return write(quantized, path, used, read_metadata(load(model.path, weights=False)))


def _quantize(
    source: Path, calibration: NDArray[np.uint8], scheme: QuantScheme, scratch: Path, style: IntegerStyle
) -> onnx.ModelProto:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

    prepared, result = scratch / "prepared.onnx", scratch / "quantized.onnx"
    # Shapes are static, so ONNX's own inference finds them all; the symbolic one takes seconds and finds no more.
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    graph = onnx.load(prepared)
    name = graph.graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(calibration)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self._images, None)
            return None if image is None else {name: image[None]}

    activation, options = _layout(style, QuantType)
    quantize_static(
        prepared,
        result,
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=activation,
        weight_type=QuantType.QInt8,
        per_channel=scheme.per_channel,
        op_types_to_quantize=_HEAVY if style is IntegerStyle.TENSORRT else None,
        nodes_to_exclude=_input_edge(graph),
        # The mean of each image's range, ONNX Runtime's other min-max, clips: it cost 15 dB of signal to noise on a small
        # network. Percentiles and entropy came out within 1 dB of this, at several times the time and memory.
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"WeightSymmetric": True, **options},
    )
    return onnx.load(result)


def _layout(style: IntegerStyle, types: type[QuantType]) -> tuple[QuantType, dict[str, Any]]:
    if style is IntegerStyle.X86:
        return types.QUInt8, {}
    if style is IntegerStyle.ARM:
        return types.QInt8, {}
    # TensorRT has no int32 dequantise for biases, and a pair between a convolution and its activation keeps them apart.
    return types.QInt8, {
        "ActivationSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": _HEAVY,
        "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
    }


def _input_edge(proto: onnx.ModelProto) -> list[str]:
    """Names of the nodes between the graph's input and the first heavy operations, the cast and the normalisation. They
    see the image itself: rounding it twice costs accuracy and saves nothing."""
    reached = {proto.graph.input[0].name}
    names = []
    for node in proto.graph.node:
        if node.op_type not in _HEAVY and reached.intersection(node.input):
            names.append(node.name)
            reached.update(node.output)
    return names
