"""A network as a plain graph of ATen operations whose weights can be rewritten and trained, and its layers by name.

It is what every exporter sees after the passes (batch norms folded), at any batch size. Weights keep their names, so that
what is found out here about a layer holds for the layer of that name in every format.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from edgedistill.base.quiet import quiet
from edgedistill.documents.specs import Contract
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.rounding.pt2e import as_input, exported, run_batches

_aten = torch.ops.aten
CONVOLUTION = _aten.conv2d.default
LINEAR = _aten.linear.default


@dataclass(frozen=True)
class TracedLayer:
    """A convolution or linear layer with a weight of its own. `name` is the weight's without its last part, `weight` and
    `bias` the full names; weights are [out, in / groups, ...]."""

    name: str
    node: Node
    weight: str
    bias: str | None
    groups: int


def to_graph(module: nn.Module, contract: Contract) -> GraphModule:
    """`module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to logits; not changed) as a graph with tensors of its own. Raises
    UnsupportedError where torch.export cannot trace it at any batch size."""
    inner = exported(module, as_input(probe_images(contract, 2))).module(check_guards=False)
    # The exported module refuses train() and eval(); a plain one of the same graph has no mode to keep.
    return copied(GraphModule(inner, inner.graph)).eval()


def copied(graph: GraphModule) -> GraphModule:
    """A graph with tensors of its own."""
    with quiet():
        return copy.deepcopy(graph)


def layers_of(graph: GraphModule) -> dict[str, TracedLayer]:
    """The layers by name, in the order in which they run. A weight that several operations read makes none."""
    found = {}
    for node in graph.graph.nodes:
        if node.target not in (CONVOLUTION, LINEAR):
            continue
        weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None
        if not _own(weight) or (bias is not None and not _own(bias)):
            continue
        name = str(weight.target).rpartition(".")[0]
        groups = node.args[6] if len(node.args) > 6 else 1
        found[name] = TracedLayer(name, node, str(weight.target), None if bias is None else str(bias.target), groups)
    return found


def _own(node: object) -> bool:
    return isinstance(node, Node) and node.op == "get_attr" and len(node.users) == 1


def tensor(graph: GraphModule, name: str) -> Tensor:
    """The parameter or buffer of that name."""
    found: Tensor = operator.attrgetter(name)(graph)
    return found


def overwrite(graph: GraphModule, name: str, value: Tensor) -> None:
    """Replaces its values, of equal shape."""
    with torch.no_grad():
        tensor(graph, name).copy_(value)


def add_to_bias(graph: GraphModule, layer: TracedLayer, value: Tensor) -> None:
    """Adds `value` [out] to a layer's bias; a layer without one gets one."""
    if layer.bias is not None:
        overwrite(graph, layer.bias, tensor(graph, layer.bias) + value)
        return
    name = f"{layer.name}.bias"
    graph.get_submodule(layer.name).register_parameter("bias", nn.Parameter(value.clone(), requires_grad=False))
    with graph.graph.inserting_before(layer.node):
        bias = graph.graph.get_attr(name)
    layer.node.args = (*layer.node.args[:2], bias, *layer.node.args[3:])
    graph.recompile()


def other_axes(layer: TracedLayer, value: Tensor) -> list[int]:
    """The axes of its input or output `value` but for the one along which channels lie."""
    channels = 1 if layer.node.target is CONVOLUTION else value.ndim - 1
    return [axis for axis in range(value.ndim) if axis != channels]


class Watching(Interpreter):
    """Runs a graph and shows every node's value to `seen(node, value)`, whose answer takes the value's place."""

    def __init__(self, graph: GraphModule, seen: Callable[[Node, Any], Any]) -> None:
        super().__init__(graph)
        self._seen = seen

    def run_node(self, n: Node) -> Any:
        return self._seen(n, super().run_node(n))


def run_graph(graph: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits float32 [n, classes] for uint8 images [n, 3, R, R]."""
    return np.concatenate([logits.numpy() for logits in run_batches(graph, images)])
