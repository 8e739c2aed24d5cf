"""What a program computes from constants alone becomes constants: positions, standardised weights, masks.

XNNPACK takes a convolution or linear layer only where its weights are parameters, and portable kernels would do the same
arithmetic at every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node
from torch.fx.node import map_arg

from edgedistill.export.passes.constants import Constants

LARGEST_BYTES = 2**24
"""What is computed stays computed where the result is larger than this: a file is not to grow by it."""


def fold_constants(program: ExportedProgram) -> int:
    """Replaces what ATen operations make of constants by its value; returns how many values were put in. Weights in integers
    stay so: the operations that make floating point of them are not ATen's."""
    for check in [
        node for node in program.graph.nodes if node.target is torch.ops.aten._assert_tensor_metadata.default
    ]:
        program.graph.erase_node(check)  # it was true when the program was traced, and keeps what it checks alive
    constants = Constants(program)
    values: dict[Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and (value := constants.get(node)) is not None:
            values[node] = value.detach()
        elif _can_be_computed(node) and all(source in values for source in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), lambda source: values[source])
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
    found = {
        node: value
        for node, value in values.items()
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in values for user in node.users)
    }
    for node, placeholder in add_constants(program, {f"folded_{node.name}": v for node, v in found.items()}, found):
        node.replace_all_uses_with(placeholder)
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    return len(found)


def add_constants(
    program: ExportedProgram, tensors: Mapping[str, Tensor], keys: Mapping[Any, Any]
) -> list[tuple[Any, Node]]:
    """New constants at the head of the program, by name; each of `keys`, in the same order, with its placeholder."""
    first = next(iter(program.graph.nodes))
    mode = next(node.meta["val"].fake_mode for node in program.graph.nodes if node.op == "placeholder")
    placeholders = []
    for name, tensor in tensors.items():
        with program.graph.inserting_before(first):
            placeholder = program.graph.placeholder(name)
        value = tensor.contiguous()
        placeholder.meta["val"] = mode.from_tensor(value, static_shapes=True)
        program.constants[placeholder.name] = value
        placeholders.append(placeholder)
    program.graph_signature.input_specs[:0] = [
        InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(name=node.name), target=node.name) for node in placeholders
    ]
    return list(zip(keys, placeholders, strict=True))


def _can_be_computed(node: Node) -> bool:
    """Whether a node is an ATen operation that gives the same at every run, changes nothing, and whose result is small."""
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return False
    if target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
        return False
    value = node.meta.get("val")
    return not isinstance(value, Tensor) or value.nbytes <= LARGEST_BYTES
