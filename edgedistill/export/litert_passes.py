"""Rewrites of the torch program that LiteRT's converter needs and the shared program does not have."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

FOLDED = "folded_"
_LIMIT_ELEMENTS = 2**20


def fold_constants(module: GraphModule) -> dict[str, str]:
    """Computes in `module` (as `ExportedProgram.module` gives it; changed in place) what depends on weights alone: a
    position embedding resized by an operation that the converter does not know, a standardised convolution weight.

    Left alone is what draws random numbers or writes to its inputs, and what would store more than it reads, beyond a
    million numbers. Returns, for each tensor put in place, the weight that it was computed from.
    """
    values: dict[Node, Any] = {}
    origins: dict[Node, str] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            value = _attribute(module, str(node.target))
            if isinstance(value, Tensor):
                values[node], origins[node] = value.detach(), str(node.target)
        elif node.all_input_nodes and all(n in values for n in node.all_input_nodes) and _is_pure(node):
            result = _compute(node, values)
            if _elements(result) <= max(_LIMIT_ELEMENTS, *(_elements(values[n]) for n in node.all_input_nodes)):
                values[node], origins[node] = result, origins[node.all_input_nodes[0]]
    folded: dict[str, str] = {}
    for node in [n for n in values if n.op != "get_attr" and not all(user in values for user in n.users)]:
        if not isinstance(values[node], Tensor):
            continue
        name = f"{FOLDED}{len(folded)}"
        module.register_buffer(name, values[node].contiguous())
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
        folded[name] = origins[node]
    module.graph.eliminate_dead_code()
    module.recompile()
    return folded


def _is_pure(node: Node) -> bool:
    if node.target is operator.getitem:
        return True
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    return not node.target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in node.target.tags


def _elements(value: Any) -> int:
    parts = value if isinstance(value, tuple | list) else (value,)
    return sum(part.numel() for part in parts if isinstance(part, Tensor))


def _compute(node: Node, values: dict[Node, Any]) -> Any:
    assert callable(node.target)
    with torch.no_grad():
        return node.target(*map_arg(node.args, values.get), **map_arg(node.kwargs, values.get))


def _attribute(module: torch.nn.Module, name: str) -> Any:
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)
