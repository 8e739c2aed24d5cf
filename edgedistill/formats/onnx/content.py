"""What an ONNX graph holds, read off its nodes and tensors without a runtime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from edgedistill.documents.artifacts import Layer
from edgedistill.formats.onnx.on_device import dtype

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that multiply floats: what a layer is. Among their inputs activations come first, then weights."""

# Those that multiply integers: where their weights stand among the inputs, and what they compute in.
_ON_INTEGERS = {
    "QLinearConv": (3, "int8"),
    "QLinearMatMul": (3, "int8"),
    "QGemm": (3, "int8"),
    "ConvInteger": (1, "int8 dynamic"),
    "MatMulInteger": (1, "int8 dynamic"),
    "DynamicQuantizeMatMul": (1, "int8 dynamic"),
}
_BLOCKS = "MatMulNBits"
_PASSED_THROUGH = ("Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze")
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int4", "uint4")


def tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model, wherever it stands: in graphs, in nodes of subgraphs and functions, in sparse ones."""
    training = (graph for info in model.training_info for graph in (info.initialization, info.algorithm))
    bodies: list[Any] = [model.graph, *training, *model.functions]
    while bodies:
        body = bodies.pop()
        sparse = [*getattr(body, "sparse_initializer", ())]
        yield from getattr(body, "initializer", ())
        for node in body.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
                bodies += [attribute.g, *attribute.graphs]
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)


def tensor_bytes(tensor: Any) -> int:
    """What the values of a tensor take by its shape; 0 where its type has no size of whole bytes."""
    import onnx

    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError):
        return 0
    four_bits = onnx.TensorProto.DataType.Name(tensor.data_type) in ("UINT4", "INT4", "FLOAT4E2M1")
    return _count(tensor) * itemsize // (2 if four_bits else 1)


def domain_of(entry: Any) -> str:
    """The domain of a node or of an imported opset, empty for ONNX's own, which has a second name."""
    return "" if entry.domain == "ai.onnx" else str(entry.domain)


def operators(graph: Any) -> Counter[tuple[str, str]]:
    """Nodes by (domain, operator), those of subgraphs included."""
    counts: Counter[tuple[str, str]] = Counter()
    for node in graph.node:
        counts[(domain_of(node), node.op_type)] += 1
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                counts += operators(inner)
    return counts


def modules(graph: Any, domain: str, operator: str) -> Counter[str]:
    """The modules whose nodes call an operator, as our exporter names them (`MODULE/OPERATOR`); a node of another exporter
    stands for itself. Subgraphs are not entered."""
    names = [node.name for node in graph.node if (domain_of(node), node.op_type) == (domain, operator)]
    return Counter(name.rpartition("/")[0] or name or "a node without a name" for name in names)


def layers(graph: Any) -> tuple[Layer, ...]:
    """The layers with constant weights, in the graph's order, each called after its weight. Subgraphs are not entered."""
    return tuple(_Layers(graph).found())


class _Layers:
    """One reading of a graph's layers."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants |= {name: a.t for name in node.output for a in node.attribute if a.name == "value"}

    def found(self) -> Iterator[Layer]:
        for node in self.graph.node:
            if node.op_type in HEAVY:
                yield from self._floating(node)
            elif node.op_type in _ON_INTEGERS:
                place, arithmetic = _ON_INTEGERS[node.op_type]
                if (weight := self._constant(node, place)) is not None:
                    yield Layer(
                        name=_name(weight.name), weights=_kind(weight), arithmetic=arithmetic, parameters=_count(weight)
                    )
            elif node.op_type == _BLOCKS and (weight := self._constant(node, 1)) is not None:
                bits = next((a.i for a in node.attribute if a.name == "bits"), 4)
                scales = self._constant(node, 2)
                computed = "float32" if scales is None else _kind(scales)
                yield Layer(
                    name=_name(weight.name),
                    weights=f"int{bits}",
                    arithmetic=computed,
                    parameters=8 * _count(weight) // bits,
                )

    def _floating(self, node: Any) -> Iterator[Layer]:
        """A layer that computes in floats, unless what comes in has been quantised, weight and activation both: runtimes
        make one integer kernel of the group. A matrix product may have its constant on the left."""
        if len(node.input) < 2:
            return
        for weight, activation in ((1, 0), (0, 1)):
            if (traced := self._traced(node.input[weight])) is not None:
                constant, computed = traced
                stored = _kind(constant)
                maker = self.makers.get(node.input[activation])
                integer = stored in _INTEGERS and maker is not None and maker.op_type == "DequantizeLinear"
                yield Layer(
                    name=_name(constant.name),
                    weights=stored,
                    arithmetic="int8" if integer else computed,
                    parameters=_count(constant),
                )
                return

    def _traced(self, name: str) -> tuple[Any, str] | None:
        """The constant that a value is made of, through what turns its type or shape, and the type that it ends up in."""
        computed = ""
        while name not in self.constants:
            maker = self.makers.get(name)
            if maker is None or not maker.input:
                return None
            if maker.op_type == "DequantizeLinear" and len(maker.input) > 1:
                scale = self.constants.get(maker.input[1])
                computed = computed or ("float32" if scale is None else _kind(scale))
            elif maker.op_type == "Cast":
                computed = computed or _type_name(next((a.i for a in maker.attribute if a.name == "to"), 1))
            elif maker.op_type not in _PASSED_THROUGH:
                return None
            name = maker.input[0]
        constant = self.constants[name]
        return constant, computed or _kind(constant)

    def _constant(self, node: Any, index: int) -> Any | None:
        return self.constants.get(node.input[index]) if len(node.input) > index else None


def _count(tensor: Any) -> int:
    return int(math.prod(tensor.dims))


def _kind(tensor: Any) -> str:
    return _type_name(tensor.data_type)


def _type_name(number: int) -> str:
    """NumPy's name of the ONNX type with this number; ONNX's own for those that NumPy lacks."""
    import onnx

    try:
        return dtype(str(onnx.TensorProto.DataType.Name(number)).lower())
    except ValueError:
        return f"type {number}"


def _name(weight: str) -> str:
    """A layer's name from its weight's: without what exporters and quantisers append."""
    return weight.removesuffix("_quantized").removesuffix(".weight")
