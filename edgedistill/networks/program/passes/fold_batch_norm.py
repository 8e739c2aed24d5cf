"""A batch norm after a convolution becomes part of its weights.

`W' = W * g`, `b' = (b - mean) * g + beta` with `g = gamma / sqrt(var + eps)` a channel: exact in real arithmetic, computed
in float64 so that float32 rounding happens once.
"""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from edgedistill.base.errors import UnsupportedError
from edgedistill.networks.program.passes.constants import Constants

CONVOLUTIONS = {torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default, torch.ops.aten.conv3d.default}
_BATCH_NORM = torch.ops.aten.batch_norm.default


def fold_batch_norm(program: ExportedProgram) -> int:
    """Folds every batch norm that alone reads a convolution whose weights nothing else reads; the others stay. Returns how
    many are gone. Raises UnsupportedError for a batch norm in training mode, which no format has."""
    constants = Constants(program)
    return sum(_fold(node, constants) for node in list(program.graph.nodes) if node.target is _BATCH_NORM)


def _fold(norm: Node, constants: Constants) -> bool:
    conv, gamma, beta, mean, variance, training, _, eps = norm.args[:8]
    if training and mean is None:
        return False  # no statistics are kept: it standardises what it is given, the weights of timm's StdConv2d
    if training:
        raise UnsupportedError(f"{norm.name} is a batch norm in training mode", fix="call .eval() before exporting")
    if not isinstance(conv, Node) or conv.target not in CONVOLUTIONS or len(conv.users) != 1:
        return False
    if any(user.op == "output" for user in norm.users):
        return False  # the program's signature names its outputs by their nodes
    weight, bias = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
    if not constants.own(weight) or not constants.own(beta) or (bias is not None and not constants.own(bias)):
        return False
    values = [constants.get(n) for n in (weight, gamma, beta, mean, variance)]
    if any(value is None for value in values):
        return False
    w, g, b, m, v = (value.detach().double() for value in values if value is not None)
    old_bias = constants.get(bias)
    scale = g * torch.rsqrt(v + float(eps))  # type: ignore[arg-type]
    constants.put(weight, w * scale.reshape(-1, *[1] * (w.ndim - 1)))
    # The batch norm's own bias carries the sum, because most convolutions before one have no bias to put it in.
    constants.put(beta, b + (0 - m if old_bias is None else old_bias.detach().double() - m) * scale)
    conv.args = (conv.args[0], weight, beta, *conv.args[3:])
    norm.replace_all_uses_with(conv)
    norm.graph.erase_node(norm)
    return True
