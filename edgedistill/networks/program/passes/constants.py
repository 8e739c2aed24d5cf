"""Parameters, buffers and constants of an exported program, read and replaced by the placeholder that stands for them."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TypeGuard

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node


class Constants:
    """The values behind a program's placeholders."""

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        self._state: MutableMapping[str, Tensor] = program.state_dict
        self._other = program.constants
        self._names: dict[str, str] = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }

    def get(self, node: object) -> Tensor | None:
        """Value behind a placeholder, None for anything else."""
        if not isinstance(node, Node) or node.op != "placeholder" or node.name not in self._names:
            return None
        name = self._names[node.name]
        value = self._state.get(name, self._other.get(name))
        return value if isinstance(value, Tensor) else None

    def name(self, node: Node) -> str:
        """The name of the value behind a placeholder: a parameter's or buffer's own in the module."""
        return self._names[node.name]

    def put(self, node: Node, value: Tensor) -> None:
        """Replaces the value. The module that was exported keeps its own tensor."""
        like = self.get(node)
        assert like is not None
        name = self._names[node.name]
        new = value.to(like.dtype).contiguous()
        if name in self._state:
            self._state[name] = torch.nn.Parameter(new, False) if isinstance(like, torch.nn.Parameter) else new
        else:
            self._other[name] = new

    def own(self, node: object) -> TypeGuard[Node]:
        """A constant that one node alone reads, so that it may change."""
        return isinstance(node, Node) and len(node.users) == 1 and self.get(node) is not None


def add_constant(program: ExportedProgram, name: str, target: str, value: Tensor, place: int = 0) -> Node:
    """The placeholder `name` of a new constant, at position `place` among the program's inputs; `target` is what the program
    knows the value by."""
    mode = next(node.meta["val"].fake_mode for node in program.graph.nodes if node.op == "placeholder")
    with program.graph.inserting_before(list(program.graph.nodes)[place]):
        placeholder: Node = program.graph.placeholder(name)
    placeholder.meta["val"] = mode.from_tensor(value, static_shapes=True)
    program.constants[target] = value
    program.graph_signature.input_specs.insert(
        place, InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(name=placeholder.name), target=target)
    )
    return placeholder
