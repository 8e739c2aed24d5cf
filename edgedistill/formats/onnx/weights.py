"""Weights of an ONNX file in int8, activations as they are: each weight is stored in 8 bits, and a DequantizeLinear in front
of the operator that reads it makes it float32 again.

The file is a quarter of the size. ONNX Runtime computes in float32, and may expand the weights once or at every run, so this
saves bytes and no time. There is no int4: 4-bit tensors come with opset 21, and ONNX Runtime's operator for them,
MatMulNBits, is for matrix products alone, of which a vision network has few.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill.base.errors import UnsupportedError
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Precision, QuantScheme
from edgedistill.formats.onnx.layers import readers_of
from edgedistill.formats.onnx.metadata import read_metadata, write
from edgedistill.formats.onnx_file import load

_OUT_AXIS = {"Conv": 0, "Gemm": 0, "MatMul": 1}
"""The axis of output channels in an operator's second input."""

_FEWEST = 256
"""Weights with fewer values stay: their scales would cost what they save."""


def to_int8_weights(model: ExportedModel, scheme: QuantScheme, folder: Path) -> ExportedModel:
    """`model` (fp32) with the weights of convolutions and matrix products in symmetric int8, a scale an output channel, as
    `folder/<stem>.int8-weights.onnx`. The same model gives the same bytes. Raises UnsupportedError for other precisions."""
    if scheme.precision is not Precision.INT8_WEIGHTS:
        raise UnsupportedError(
            f"ONNX Runtime has no convolutions over {scheme.label}", fix="use int8-weights, or coreml for int4-weights"
        )
    proto = load(model.path)
    graph = proto.graph
    readers = readers_of(graph)
    expanding = []
    for tensor in list(graph.initializer):
        name = tensor.name
        if (axis := _axis(tensor, readers.get(name, []))) is None:
            continue
        codes, scales = rounded(numpy_helper.to_array(tensor), axis)
        stored, scale = f"{name}.int8", f"{name}.scale"
        graph.initializer.remove(tensor)
        graph.initializer.extend([numpy_helper.from_array(codes, stored), numpy_helper.from_array(scales, scale)])
        expanding.append(
            helper.make_node("DequantizeLinear", [stored, scale], [name], name=f"expand_{name}", axis=axis)
        )
    for node in reversed(expanding):
        graph.node.insert(0, node)
    path = folder / f"{model.path.stem.removesuffix('.fp32')}.{scheme.label}.onnx"
    return write(proto, path, scheme.model_copy(update={"calibration_images": 0}), read_metadata(proto))


def _axis(tensor: TensorProto, readers: list[onnx.NodeProto]) -> int | None:
    """The output channels' axis where every reader is an operator that takes `tensor` as its weight."""
    if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < _FEWEST or not readers:
        return None
    axes = set()
    for node in readers:
        if node.op_type not in _OUT_AXIS or len(node.input) < 2 or node.input[1] != tensor.name:
            return None
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axes.add(1 if node.op_type == "Gemm" and not transposed else _OUT_AXIS[node.op_type])
    if len(axes) != 1 or max(axes) >= len(tensor.dims):
        return None
    return int(axes.pop())


def rounded(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes int8 of `weight`'s shape in -127..127 and scales float32 [channels along `axis`], of which it is the product."""
    others = tuple(a for a in range(weight.ndim) if a != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    codes = np.clip(np.rint(weight / scales), -127, 127).astype(np.int8)
    return codes, scales.reshape(-1)
