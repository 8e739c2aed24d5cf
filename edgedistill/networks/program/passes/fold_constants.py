"""What a program computes from constants alone becomes constants: resized position embeddings, standardised weights, masks.

Some converters lack the operations (LiteRT's resizing with antialias), some delegates take a layer only where its weights
are parameters (XNNPACK), and portable kernels would do the same arithmetic at every run.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from edgedistill.networks.program.passes.constants import Constants, add_constant

LARGEST_NUMBERS = 2**20
"""What is computed stays computed where the result has more numbers than this and than all it is made of: a file is not to
grow by it."""
FOLDED = "_folded"
"""Ends the name of a constant; it begins with that of the weight it was made of: `conv.weight_folded` is of layer conv."""


def fold_constants(program: ExportedProgram) -> int:
    """Replaces what ATen operations make of constants by its value; returns how many values were put in. Left alone is what
    draws random numbers, writes to its inputs or grows. Weights in integers stay so: the operations that make floating point
    of them are not ATen's."""
    for check in [n for n in program.graph.nodes if n.target is torch.ops.aten._assert_tensor_metadata.default]:
        program.graph.erase_node(check)  # it was true when the program was traced, and keeps what it checks alive
    constants = Constants(program)
    values: dict[Node, Any] = {}
    origins: dict[Node, str] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and (value := constants.get(node)) is not None:
            values[node], origins[node] = value.detach(), constants.name(node)
        elif _is_pure(node) and all(source in values for source in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), lambda source: values[source])
            with torch.no_grad():
                result = node.target(*args, **kwargs)
            if _numbers(result) <= max(LARGEST_NUMBERS, *(_numbers(values[n]) for n in node.all_input_nodes), 0):
                values[node] = result
                origins[node] = next((origins[n] for n in node.all_input_nodes), "constant")
    found = [
        node
        for node, value in values.items()
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in values for user in node.users)
    ]
    for node in found:
        node.replace_all_uses_with(_added(program, origins[node], values[node]))
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    return len(found)


def _added(program: ExportedProgram, origin: str, value: Tensor) -> Node:
    """The placeholder of a new constant at the head of the program."""
    target, number = origin + FOLDED, 1
    while target in program.constants or target in program.state_dict:
        target, number = f"{origin}{FOLDED}{number}", number + 1
    return add_constant(program, "c_" + target.replace(".", "_"), target, value.contiguous())


def _is_pure(node: Node) -> bool:
    """Whether a node is an ATen operation that gives the same at every run and changes nothing."""
    target = node.target
    if target is operator.getitem:
        return True
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return False
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _numbers(value: Any) -> int:
    """How many numbers a result holds: of a tensor, or of the tensors of a list."""
    if isinstance(value, Tensor):
        return value.numel()
    return sum(map(_numbers, value)) if isinstance(value, list | tuple) else 0
