"""What is inside a part of a program that XNNPACK computes: its payload is a header, a flatbuffer (schema XN01) and data."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from edgedistill.documents.artifacts import Layer
from edgedistill.formats.flatbuffer import Buffer, Damaged, Table

_IDENTIFIER = b"XN01"
_MAGIC = b"XH00"
_HEADER = "<HIIIQ"
_INLINE_ONLY = 2**64 - 1
_MAX_VALUE_BYTES = 2**30

# The order is the schema's: the position, from 1, is the type in the file.
_NODES = [
    "add",
    "fully_connected",
    "softmax",
    "sigmoid",
    "transpose",
    "clamp",
    "conv2d",
    "div",
    "resize_bilinear2d",
    "pad",
    "avg_pool2d",
    "minimum",
    "depthwise_conv2d",
    "max_pool2d",
    "multiply",
    "subtract",
    "floor",
    "convert",
    "global_avg_pool2d",
    "reshape",
    "argmax_pool2d",
    "square_root",
    "ceiling",
    "hardswish",
    "leaky_relu",
    "maximum",
    "negate",
    "square",
    "elu",
    "abs",
    "prelu",
    "concatenate2",
    "concatenate3",
    "concatenate4",
    "slice",
    "attention",
    "batch_matmul",
    "concatenate5",
    "conv_transpose2d",
    "reciprocal_square_root",
    "log",
    "gelu",
    "tanh",
    "exp",
    "sin",
    "copy",
    "cos",
]
# Which fields of an operation name values, by their numbers in the schema; (0, 1) where nothing is said.
_VALUES = {
    **dict.fromkeys(("add", "div", "minimum", "multiply", "subtract", "maximum", "prelu", "batch_matmul"), (0, 1, 2)),
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv_transpose2d"), (15, 16, 17, 18)),
    **dict.fromkeys(("avg_pool2d", "max_pool2d"), (10, 11)),
    **dict.fromkeys(("transpose", "reshape", "resize_bilinear2d"), (2, 3)),
    **dict.fromkeys(("pad", "slice"), (3, 4)),
    **dict.fromkeys(("elu", "leaky_relu"), (1, 2)),
    "fully_connected": (0, 1, 2, 3),
    "concatenate2": (1, 2, 5),
    "concatenate3": (1, 2, 3, 5),
    "concatenate4": (1, 2, 3, 4, 5),
    "concatenate5": (1, 2, 3, 4, 7, 5),
    "attention": (0, 1, 2, 3, 4, 5),
    "argmax_pool2d": (6, 7, 8),
}
_WEIGHTED = {"fully_connected": (0, 1), **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv_transpose2d"), (15, 16))}
"""Operations with weights: the fields that name what comes in, and the weight."""
_NO_VALUE = 2**32 - 1
_DATATYPES = [
    "invalid",
    "fp32",
    "fp16",
    "qint8",
    "quint8",
    "qint32",
    "qcint8",
    "qcint32",
    "qcint4",
    "qdint8",
    "qbint4",
    "qpint8",
    "int32",
    "pfp32",
    "bf16",
]
_FLOATS = {"fp32": "float32", "pfp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_WEIGHTS = {**_FLOATS, "qcint4": "int4", "qbint4": "int4", "qcint8": "int8", "qint8": "int8", "quint8": "uint8"}
_ARITHMETIC = {**_FLOATS, "qint8": "int8", "quint8": "uint8", "qdint8": "int8 dynamic", "qpint8": "int8 dynamic"}
_BYTES = {"fp32": 4, "fp16": 2, "qint32": 4, "qcint32": 4, "int32": 4, "pfp32": 4, "bf16": 2}


@dataclass(frozen=True)
class XnnpackPart:
    """`nodes` counts the operations, `datatypes` the types of the values between them and of weights; `weight_bytes` is the
    size of its constants, in the payload or by name. `layers` are those with weights, called after their operation."""

    nodes: Counter[str]
    layers: tuple[Layer, ...]
    datatypes: Counter[str]
    weight_bytes: int


def read_xnnpack(payload: bytes, named: Mapping[str, int]) -> XnnpackPart:
    """Reads a payload; `named` are the sizes of the file's data by name. Raises Damaged."""
    start, size, data_start, data_bytes = 0, len(payload), len(payload), 0
    if payload[4:8] == _MAGIC:
        if len(payload) < 8 + struct.calcsize(_HEADER):
            raise Damaged("a part for XNNPACK is cut off")
        _, start, size, data_start, data_bytes = struct.unpack_from(_HEADER, payload, 8)
        if start + size > len(payload) or data_start + data_bytes > len(payload):
            raise Damaged(f"a part for XNNPACK tells of {size} bytes at {start}, it has {len(payload)}")
    graph = Buffer(payload[start : start + size], _IDENTIFIER).root()
    constants = [_constant(table, data_bytes, named) for table in graph.tables(8)]
    values = [_value(table, constants) for table in graph.tables(2)]
    types = {number: datatype for number, datatype, _ in values}
    stored = {number: elements for number, _, elements in values if elements}
    known = set(types) | {_NO_VALUE}
    nodes: Counter[str] = Counter()
    layers: list[Layer] = []
    for node in graph.tables(1):
        kind, content = node.union(0)
        if not 0 < kind <= len(_NODES) or content is None:
            raise Damaged(f"a part for XNNPACK has an operation of the unknown type {kind}")
        name = _NODES[kind - 1]
        for number in (content.integer(index) for index in _VALUES.get(name, (0, 1))):
            if number not in known:
                raise Damaged(f"{name} for XNNPACK names value {number}, which is not there")
        fields = _WEIGHTED.get(name)
        activation, weight = (content.integer(field) for field in fields) if fields else (_NO_VALUE, _NO_VALUE)
        if weight in stored and activation in types:
            layers.append(
                Layer(
                    name=name,
                    weights=_WEIGHTS.get(types[weight], types[weight]),
                    arithmetic=_ARITHMETIC.get(types[activation], types[activation]),
                    parameters=stored[weight],
                )
            )
        nodes[name] += 1
    return XnnpackPart(nodes, tuple(layers), Counter(datatype for _, datatype, _ in values), sum(constants))


def _constant(table: Table, data_bytes: int, named: Mapping[str, int]) -> int:
    """Bytes of one constant. The first of a part stands for none, and has the size 0."""
    offset, size, name = table.integer(0, "<Q"), table.integer(1, "<Q"), table.text(2)
    if name:
        if name not in named or size > named[name]:
            raise Damaged(f"a part for XNNPACK wants {size} bytes named {name[:12]}..., which are not there")
    elif offset != _INLINE_ONLY and offset + size > data_bytes:
        raise Damaged(f"a constant for XNNPACK lies at {offset} of {data_bytes} bytes")
    return size


def _value(table: Table, constants: list[int]) -> tuple[int, str, int]:
    """Number and datatype of a value, and the elements of the constant that it is, which it is checked to fit; else 0."""
    kind, content = table.union(0)
    if kind not in (1, 2) or content is None:
        raise Damaged(f"a value for XNNPACK is of the unknown type {kind}")
    tensor = content if kind == 1 else content.table(0)
    if tensor is None:
        raise Damaged("a value for XNNPACK has no tensor")
    number = tensor.integer(0, "<h")
    if not 0 < number < len(_DATATYPES):
        raise Damaged(f"a value for XNNPACK is of the unknown type {number}")
    datatype = _DATATYPES[number]
    dims = tensor.numbers(2, "<u4").tolist()
    elements = math.prod(dims)
    if len(dims) != tensor.integer(1) or elements > _MAX_VALUE_BYTES:
        raise Damaged(f"a value for XNNPACK has the shape {dims[:8]}")
    constant = tensor.integer(3)
    if constant:
        if constant >= len(constants):
            raise Damaged(f"constant {constant} for XNNPACK is named, there are {len(constants)}")
        least = elements * _BYTES.get(datatype, 1) // (2 if datatype in ("qcint4", "qbint4") else 1)
        if least > constants[constant]:
            raise Damaged(f"a constant for XNNPACK of {least} bytes has {constants[constant]}")
    return tensor.integer(6), datatype, elements if constant else 0
