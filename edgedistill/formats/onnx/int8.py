"""Static int8 for ONNX files: scales from calibration images, quantise and dequantise nodes in the graph.

What a runtime makes of such a graph depends on where the pairs stand and which integer types they hold, so there is one
style a kind of runtime. ONNX Runtime fuses `DQ -> Conv -> Q` into QLinearConv when every operator's inputs and output have
a pair; TensorRT fuses `DQ -> Conv [-> activation, add]` when only inputs have one, and knows symmetric int8 alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgedistill.base.arrays import Images
from edgedistill.base.quiet import quiet
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Precision, QuantScheme
from edgedistill.formats.format import IntegerStyle
from edgedistill.formats.onnx.content import HEAVY
from edgedistill.formats.onnx.layers import layer_names, nodes_of
from edgedistill.formats.onnx.metadata import read_metadata, write
from edgedistill.formats.onnx.ranges import read_ranges
from edgedistill.formats.onnx_file import load
from edgedistill.formats.quantizer_checks import require_images, require_layers

if TYPE_CHECKING:
    from onnxruntime.quantization import QuantType  # type: ignore[import-untyped]


def to_int8(
    model: ExportedModel,
    calibration: Images,
    scheme: QuantScheme,
    folder: Path,
    style: IntegerStyle = IntegerStyle.X86,
) -> ExportedModel:
    """`model` (fp32) with int8 weights and 8-bit activations, as `folder/<stem>.int8.onnx`; in a mixed scheme the layers of
    `scheme.kept`, and what reads nothing but their results, stay in float32 (`<stem>.mixed.onnx`).

    `calibration` are uint8 images [n, 3, R, R] from the *training* split, off which `scheme.calibration` reads the ranges of
    activations. Weights are symmetric, one scale an output channel if `scheme.per_channel`. The same model and images give
    the same bytes. The scheme returned states how many images were used.

    Raises InputError where the images do not fit the model, or a layer to keep is not in it.
    """
    with tempfile.TemporaryDirectory() as scratch, quiet():
        prepared = prepare(model, calibration, scheme, Path(scratch), style)
        kept = scheme.kept if scheme.precision is Precision.MIXED else ()
        require_layers(kept, prepared.layers.values())
        quantized = prepared.quantized(exclude=nodes_of(prepared.graph, prepared.layers, kept))
    suffix = f"{scheme.label}-tensorrt" if style is IntegerStyle.TENSORRT else scheme.label
    path = folder / f"{model.path.stem.removesuffix('.fp32')}.{suffix}.onnx"
    used = scheme.model_copy(update={"calibration_images": len(calibration)})
    return write(quantized, path, used, read_metadata(load(model.path, weights=False)))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model ready for integers: its optimised `graph`, its `layers` by node, the `ranges` of its activations (ONNX
    Runtime's TensorsData). `path` is where the graph lies."""

    path: Path
    graph: onnx.GraphProto
    layers: dict[str, str]
    ranges: Any
    per_channel: bool
    style: IntegerStyle

    def quantized(self, *, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> onnx.ModelProto:
        """The model with every node that can be in integers, of `only` where given, and none of `exclude`."""
        from onnxruntime.quantization import QDQQuantizer, QuantType

        activation, options = _layout(self.style, QuantType)
        quantizer = QDQQuantizer(
            onnx.shape_inference.infer_shapes(onnx.load(self.path)),
            self.per_channel,
            False,
            QuantType.QInt8,
            activation,
            self.ranges,
            list(only),
            [*input_edge(self.graph), *exclude],
            _op_types(self.style),
            {"WeightSymmetric": True, **options},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        made: onnx.ModelProto = quantizer.model.model
        return made


def prepare(
    model: ExportedModel, calibration: Images, scheme: QuantScheme, scratch: Path, style: IntegerStyle
) -> Prepared:
    """Optimise `model` and read its ranges off uint8 images [n, 3, R, R]; files go to `scratch`. Raises InputError where the
    images do not fit the model."""
    from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

    require_images(calibration, model.inputs[0].shape[1:], model.path.name)
    path = scratch / "prepared.onnx"
    # Shapes are static, so ONNX's own inference finds them all; the symbolic one takes seconds and finds no more.
    quant_pre_process(model.path, path, skip_symbolic_shape=True)
    return Prepared(
        path=path,
        graph=onnx.load(path).graph,
        layers=layer_names(load(model.path).graph),
        ranges=read_ranges(path, calibration, scheme.calibration, _op_types(style), scratch),
        per_channel=scheme.per_channel,
        style=style,
    )


def _op_types(style: IntegerStyle) -> list[str]:
    """What is computed in integers. TensorRT fuses all else into the heavy operators, or leaves it in float."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry  # type: ignore[import-untyped]

    return list(HEAVY) if style is IntegerStyle.TENSORRT else sorted({*QLinearOpsRegistry, *QDQRegistry})


def _layout(style: IntegerStyle, types: type[QuantType]) -> tuple[QuantType, dict[str, Any]]:
    if style is not IntegerStyle.TENSORRT:
        return (types.QUInt8 if style is IntegerStyle.X86 else types.QInt8), {}
    # TensorRT has no int32 dequantise for biases, and a pair between a convolution and its activation keeps them apart.
    return types.QInt8, {
        "ActivationSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(HEAVY),
        "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
    }


def input_edge(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes between the graph's input and the first heavy operations, the cast and the normalisation. They
    see the image itself: rounding it twice costs quality and saves nothing."""
    reached = {graph.input[0].name}
    names = []
    for node in graph.node:
        if node.op_type not in HEAVY and reached.intersection(node.input):
            names.append(node.name)
            reached.update(node.output)
    return names
