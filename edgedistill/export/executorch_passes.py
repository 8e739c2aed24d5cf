"""Rewrites of the torch program that ExecuTorch wants and other formats do not: each is a function on a private copy.

`to_edge_transform_and_lower` traces the program anew, so that a rewrite may leave shapes and types of what follows to it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Graph, Node

_aten = torch.ops.aten
_SCALAR_OPERATIONS = {
    _aten.add.Tensor,
    _aten.sub.Tensor,
    _aten.mul.Tensor,
    _aten.div.Tensor,
    _aten.add.Scalar,
    _aten.sub.Scalar,
    _aten.mul.Scalar,
    _aten.div.Scalar,
    _aten.add_.Tensor,
    _aten.sub_.Tensor,
    _aten.mul_.Tensor,
    _aten.div_.Tensor,
}
_TENSOR_FORM = {
    _aten.add.Scalar: _aten.add.Tensor,
    _aten.sub.Scalar: _aten.sub.Tensor,
    _aten.mul.Scalar: _aten.mul.Tensor,
    _aten.div.Scalar: _aten.div.Tensor,
}
_HARD_SIGMOIDS = {_aten.hardsigmoid.default, _aten.hardsigmoid_.default}


def own_copy(program: ExportedProgram) -> ExportedProgram:
    """A program whose graph and dictionaries may be changed; the tensors in them are shared with `program`."""
    graph = Graph()
    nodes: dict[Node, Node] = {}
    output = graph.graph_copy(program.graph, nodes)
    original = next(node for node in program.graph.nodes if node.op == "output")
    graph.output(output).meta = dict(original.meta)
    for node in nodes.values():
        node.meta = dict(node.meta)
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
                is_parameter = isinstance(tensor, torch.nn.Parameter)
                table[name] = torch.nn.Parameter(half, False) if is_parameter else half
    _lift_scalars(program)
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in inputs and node.meta["val"].dtype == torch.float32:
            node.meta["val"] = node.meta["val"].half()
        elif node.op == "call_function" and torch.float32 in (*node.args, *node.kwargs.values()):
            node.args = tuple(torch.float16 if a is torch.float32 else a for a in node.args)
            node.kwargs = {k: torch.float16 if a is torch.float32 else a for k, a in node.kwargs.items()}
    end = next(node for node in program.graph.nodes if node.op == "output")
    (logits,) = end.args[0]
    with program.graph.inserting_before(end):
        cast = program.graph.call_function(_aten._to_copy.default, (logits,), {"dtype": torch.float32})
    cast.meta["val"] = logits.meta["val"]
    end.args = ((cast,),)
    for specification in program.graph_signature.output_specs:
        if specification.arg.name == logits.name:
            specification.arg.name = cast.name


def _lift_scalars(program: ExportedProgram) -> None:
    """Scalars of additions and products become constants of float16. ExecuTorch makes them float32, and casts each of them
    at every run."""
    first = next(iter(program.graph.nodes))
    found: dict[float, Node] = {}
    mode = first.meta["val"].fake_mode
    for node in list(program.graph.nodes):
        if node.target not in _SCALAR_OPERATIONS:
            continue
        for scalar in [a for a in node.args if isinstance(a, int | float)]:
            if scalar not in found:
                name = f"scalar_{len(found)}"
                with program.graph.inserting_before(first):
                    found[scalar] = program.graph.placeholder(name)
                program.constants[name] = torch.tensor(scalar, dtype=torch.float16)
                found[scalar].meta["val"] = mode.from_tensor(program.constants[name], static_shapes=True)
        node.args = tuple(found[a] if isinstance(a, int | float) else a for a in node.args)
        node.target = _TENSOR_FORM.get(node.target, node.target)
    specifications = [
        InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(name=node.name), target=node.name)
        for node in found.values()
    ]
    program.graph_signature.input_specs[:0] = specifications


def open_hard_sigmoids(program: ExportedProgram) -> int:
    """hardsigmoid becomes `hardtanh(x + 3.0, 0, 6) / 6.0`, XNNPACK's operations; returns how many. ExecuTorch's own
    decomposition has integer constants, and casts each of them at every run."""
    return _rewrite(program, lambda node: node.target in _HARD_SIGMOIDS, _open_hard_sigmoid)


def _open_hard_sigmoid(graph: Graph, node: Node) -> Node:
    moved = graph.call_function(_aten.add.Tensor, (node.args[0], 3.0))
    clamped = graph.call_function(_aten.hardtanh.default, (moved, 0.0, 6.0))
    return graph.call_function(_aten.div.Tensor, (clamped, 6.0))


def make_scalars_float(program: ExportedProgram) -> int:
    """Integer scalars added to or multiplied with floating point become floats; returns how many nodes changed. ExecuTorch
    makes tensors of scalars: an integer one is cast at every run and keeps the operation out of the delegate."""
    changed = 0
    for node in program.graph.nodes:
        if node.target not in _SCALAR_OPERATIONS or not node.meta["val"].dtype.is_floating_point:
            continue
        args = tuple(float(a) if isinstance(a, int) and not isinstance(a, bool) else a for a in node.args)
        if any(type(new) is not type(old) for new, old in zip(args, node.args, strict=True)):
            node.args = args
            changed += 1
    return changed


def _rewrite(program: ExportedProgram, wanted: Callable[[Node], bool], build: Callable[[Graph, Node], Node]) -> int:
    """Replaces each node that is `wanted` by what `build` makes in front of it."""
    changed = 0
    for node in list(program.graph.nodes):
        if node.op != "call_function" or not wanted(node):
            continue
        with program.graph.inserting_before(node):
            new = build(program.graph, node)
        new.meta = {key: value for key, value in node.meta.items() if key in ("val", "nn_module_stack", "stack_trace")}
        node.replace_all_uses_with(new)
        _rename_outputs(program, node, new)
        program.graph.erase_node(node)
        changed += 1
    return changed


def _rename_outputs(program: ExportedProgram, old: Node, new: Node) -> None:
    specification: Any
    for specification in program.graph_signature.output_specs:
        if specification.arg.name == old.name:
            specification.arg.name = new.name
