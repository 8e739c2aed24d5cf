"""The torch program as coremltools translates it: by the names of operations, of which it lacks some, and misreads one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def in_known_operations(program: ExportedProgram) -> ExportedProgram:
    """The program in ATen's core operations, those that coremltools has no translation for (`addcmul` of ConvNeXt V2) taken
    apart further, as torch defines them."""
    from torch._decomp import get_decompositions
    from torch._ops import OpOverload

    supported = importlib.import_module("coremltools.converters.mil.frontend.torch").is_torch_fx_node_supported
    lowered: ExportedProgram = program.run_decompositions({})
    _drop_aliases(lowered)
    calls = [node for node in lowered.graph.nodes if isinstance(node.target, OpOverload)]
    if parts := get_decompositions([node.target for node in calls if not supported(node)]):
        lowered = lowered.run_decompositions(parts)
        _drop_aliases(lowered)
    _multiply_scaled(lowered)
    lowered.graph_module.recompile()
    return lowered


def _multiply_scaled(program: ExportedProgram) -> None:
    """`add(x, y, alpha=a)` means x + a y, and coremltools leaves out the a (apple/coremltools#2573)."""
    import torch

    aten = torch.ops.aten
    scaled = {
        aten.add.Tensor: 1,
        aten.add.Scalar: 1,
        aten.sub.Tensor: 1,
        aten.sub.Scalar: 1,
        aten.rsub.Tensor: 0,
        aten.rsub.Scalar: 0,
    }
    for node in program.graph.nodes:
        place = scaled.get(node.target)
        alpha = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
        if place is None or alpha == 1:
            continue
        operands = list(node.args[:2])
        operand = operands[place]
        if isinstance(operand, torch.fx.Node):
            with program.graph.inserting_before(node):
                operands[place] = program.graph.call_function(aten.mul.Scalar, (operand, alpha))
            operands[place].meta = {**operand.meta}
        else:
            operands[place] = operand * alpha
        node.args, node.kwargs = tuple(operands), {}


def _drop_aliases(program: ExportedProgram) -> None:
    """Slicing a whole tensor decomposes to `aten.alias`, which coremltools does not know (apple/coremltools#2517)."""
    import torch

    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
