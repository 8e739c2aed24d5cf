"""Linear layers as 1x1 convolutions, for a builder that has one and not the other."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def linear_as_convolution(proto: onnx.ModelProto) -> int:
    """Rewrites each `Gemm(x [1, K], W [N, K], b)` in place as Reshape, Conv with a 1x1 kernel, Reshape; returns how many.
    The sums are the same. A weight that is dequantised keeps its scales: their axis, the output channel, stays 0."""
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers = [name for node in graph.node for name in node.input]
    rewritten = 0
    for node in list(graph.node):
        if node.op_type != "Gemm" or not _is_plain_linear(node):
            continue
        maker = makers.get(node.input[1])
        stored = constants.get(maker.input[0] if maker and maker.op_type == "DequantizeLinear" else node.input[1])
        if stored is None or len(stored.dims) != 2 or any(readers.count(n) != 1 for n in (stored.name, node.input[1])):
            continue
        outputs, inputs = stored.dims
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored)[:, :, None, None], stored.name))
        shapes = {f"{node.name}_in_shape": (1, inputs, 1, 1), f"{node.name}_out_shape": (1, outputs)}
        graph.initializer.extend(numpy_helper.from_array(np.array(s, np.int64), n) for n, s in shapes.items())
        wide, narrow = f"{node.output[0]}_wide", f"{node.output[0]}_conv"
        steps = [
            helper.make_node("Reshape", [node.input[0], f"{node.name}_in_shape"], [wide], name=f"{node.name}_in"),
            helper.make_node("Conv", [wide, *node.input[1:]], [narrow], name=node.name, kernel_shape=[1, 1]),
            helper.make_node("Reshape", [narrow, f"{node.name}_out_shape"], [node.output[0]], name=f"{node.name}_out"),
        ]
        position = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, step in enumerate(steps):
            graph.node.insert(position + offset, step)
        rewritten += 1
    if rewritten:
        del graph.value_info[:]  # the shapes noted for weights are no longer theirs
    return rewritten


def _is_plain_linear(node: onnx.NodeProto) -> bool:
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}
    return {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0, **values} == plain
