"""The edges and the precision of the torch program as ExecuTorch wants them, made on a private copy.

`to_edge_transform_and_lower` traces the program anew, so that shapes and types of what follows a change are left to it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from edgedistill.formats.executorch.rewrites import SCALAR_OPERATIONS
from edgedistill.networks.program.passes.constants import add_constant

_aten = torch.ops.aten
_TENSOR_FORM = {
    _aten.add.Scalar: _aten.add.Tensor,
    _aten.sub.Scalar: _aten.sub.Tensor,
    _aten.mul.Scalar: _aten.mul.Tensor,
    _aten.div.Scalar: _aten.div.Tensor,
}


def own_copy(program: ExportedProgram) -> ExportedProgram:
    """A program whose graph and dictionaries may be changed; the tensors in them are shared with `program`."""
    graph = Graph()
    nodes: dict[Node, Node] = {}
    output = graph.graph_copy(program.graph, nodes)
    graph.output(output).meta = dict(program.graph.output_node().meta)
    for old, new in nodes.items():
        new.meta = dict(old.meta)
        # The copy renames what is also a name of Python's, such as an input called `input`; the signature does not.
        new.name = old.name
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=copy.deepcopy(program.graph_signature),
        state_dict=dict(program.state_dict),
        range_constraints=dict(program.range_constraints),
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=dict(program.constants),
        verifiers=program.verifiers,
    )


def take_uint8(program: ExportedProgram, dtype: torch.dtype = torch.float32) -> None:
    """The input becomes uint8, cast once to `dtype` in front of all that read it."""
    name = program.graph_signature.user_inputs[0]
    image = next(node for node in program.graph.nodes if node.op == "placeholder" and node.name == name)
    value = image.meta["val"]
    with program.graph.inserting_after(image):
        cast = program.graph.call_function(_aten._to_copy.default, (image,), {"dtype": dtype})
    image.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)
    cast.meta["val"] = value.to(dtype)
    image.meta["val"] = value.to(torch.uint8)
    args, kwargs = program.example_inputs
    program.example_inputs = ((args[0].to(torch.uint8), *args[1:]), kwargs)


def compute_in_half(program: ExportedProgram) -> None:
    """Weights, constants and arithmetic in float16; the output is cast back to float32. `take_uint8` gives the input."""
    for table in (program.state_dict, program.constants):
        for name, tensor in table.items():
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                half = tensor.detach().half()
                table[name] = torch.nn.Parameter(half, False) if isinstance(tensor, torch.nn.Parameter) else half
    _lift_scalars(program)
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in inputs and node.meta["val"].dtype == torch.float32:
            node.meta["val"] = node.meta["val"].half()
        elif node.op == "call_function" and torch.float32 in (*node.args, *node.kwargs.values()):
            node.args = tuple(torch.float16 if a is torch.float32 else a for a in node.args)
            node.kwargs = {k: torch.float16 if a is torch.float32 else a for k, a in node.kwargs.items()}
    end = program.graph.output_node()
    (logits,) = end.args[0]
    with program.graph.inserting_before(end):
        cast = program.graph.call_function(_aten._to_copy.default, (logits,), {"dtype": torch.float32})
    cast.meta["val"] = logits.meta["val"]
    end.args = ((cast,),)
    program.graph_signature.replace_all_uses(logits.name, cast.name)


def _lift_scalars(program: ExportedProgram) -> None:
    """Scalars of additions and products in floating point become constants of float16. ExecuTorch makes them float32, and
    casts each of them at every run."""
    nodes = [node for node in program.graph.nodes if node.target in SCALAR_OPERATIONS and _gives_floats(node)]
    scalars = dict.fromkeys(a for node in nodes for a in node.args if isinstance(a, int | float))
    found = {
        scalar: add_constant(program, f"scalar_{i}", f"scalar_{i}", torch.tensor(scalar, dtype=torch.float16), i)
        for i, scalar in enumerate(scalars)
    }
    for node in nodes:
        node.args = tuple(found[a] if isinstance(a, int | float) else a for a in node.args)
        node.target = _TENSOR_FORM.get(node.target, node.target)


def _gives_floats(node: Node) -> bool:
    """Whether a node gives floating point. Those that a rewrite put in without a value do."""
    value = node.meta.get("val")
    return value is None or bool(value.dtype.is_floating_point)
