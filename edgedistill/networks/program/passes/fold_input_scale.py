"""A division or multiplication by a per-channel constant becomes part of the convolution that reads it.

`W' = W / std`. Zero padding stays zero when it is scaled, so borders keep their values. The mean before it does *not* fold:
padding would have to be the mean. Computed in float64, so that float32 rounding happens once.
"""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from edgedistill.networks.program.passes.constants import Constants

_SCALINGS = {torch.ops.aten.div.Tensor, torch.ops.aten.mul.Tensor}


def fold_input_scale(program: ExportedProgram) -> int:
    """Folds every such scaling that an ungrouped 2-d convolution with weights of its own alone reads. Returns how many are
    gone."""
    constants = Constants(program)
    return sum(_fold(node, constants) for node in list(program.graph.nodes) if node.target in _SCALINGS)


def _fold(scaling: Node, constants: Constants) -> bool:
    source, operand = scaling.args[:2]
    users = list(scaling.users)
    factor = constants.get(operand)
    if (
        factor is None
        or not isinstance(source, Node)
        or len(users) != 1
        or users[0].target is not torch.ops.aten.conv2d.default
    ):
        return False
    conv = users[0]
    weight, groups = conv.args[1], conv.args[6] if len(conv.args) > 6 else 1
    value = constants.get(weight)
    if conv.args[0] is not scaling or groups != 1 or value is None or not constants.own(weight) or conv.kwargs:
        return False
    channels = value.shape[1]
    if factor.numel() != 1 and tuple(factor.shape) not in {(channels, 1, 1), (1, channels, 1, 1)}:
        return False
    scale = factor.detach().double().reshape(1, -1, 1, 1)
    divide = scaling.target is torch.ops.aten.div.Tensor
    constants.put(weight, value.detach().double() / scale if divide else value.detach().double() * scale)
    scaling.replace_all_uses_with(source)
    scaling.graph.erase_node(scaling)
    return True
