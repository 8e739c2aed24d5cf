"""Layers of an ONNX graph by the names that they have in torch, and what stays in floating point with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from edgedistill.formats.onnx.content import HEAVY


def readers_of(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read a value, by its name."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def layer_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Layer by node: `node_conv2d_3` -> `network.blocks.0.conv`. The name is the weight's without its last part; where the
    exporter has transposed the weight and named it anew, that of the bias added next; a product of two activations goes by
    its node's name."""
    constants = {tensor.name for tensor in graph.initializer}
    readers = readers_of(graph)
    found = {}
    for node in graph.node:
        if node.op_type in HEAVY:
            after = [r for r in readers.get(node.output[0], []) if r.op_type == "Add"]
            named = [name for name in (*node.input, *(n for r in after for n in r.input)) if name in constants]
            weights = [name for name in named if name.endswith((".weight", ".bias"))]
            has_weight = any(name in constants for name in node.input)
            found[node.name] = weights[0].rpartition(".")[0] if has_weight and weights else node.name
    return found


def nodes_of(graph: onnx.GraphProto, layers: Mapping[str, str], chosen: Collection[str]) -> list[str]:
    """Names of the nodes of `graph` that compute the `chosen` layers, with all that reads nothing but their results. A graph
    that was optimised since `layers` was read keeps the nodes' or the weights' names."""
    own = {**layer_names(graph), **layers}
    constants = {tensor.name for tensor in graph.initializer}
    inside: set[str] = set()
    names = []
    for node in graph.node:
        if node.op_type in HEAVY:
            taken = own.get(node.name) in chosen
        else:
            read = [name for name in node.input if name and name not in constants]
            taken = bool(read) and all(name in inside for name in read)
        if taken:
            inside.update(node.output)
            names.append(node.name)
    return names
