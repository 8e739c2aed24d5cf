"""Folds what follows or precedes a convolution into its weights, in an exported program.

Both rewrites are exact in real arithmetic and are computed in float64, so that float32 rounding happens once:

- conv, then batch norm: `W' = W * g`, `b' = (b - mean) * g + beta` with `g = gamma / sqrt(var + eps)` a channel.
- division (or multiplication) by a per-channel constant, then conv: `W' = W / std`. Zero padding stays zero when it is
  scaled, so borders keep their values. The mean before it does *not* fold: padding would have to be the mean.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

_CONVOLUTIONS = {torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default, torch.ops.aten.conv3d.default}
_BATCH_NORM = torch.ops.aten.batch_norm.default
_SCALINGS = {torch.ops.aten.div.Tensor, torch.ops.aten.mul.Tensor}


class _Constants:
    """Parameters and buffers of a program by the placeholder that stands for them."""

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        self._state: MutableMapping[str, Tensor] = program.state_dict
        self._other = program.constants
        self._names = {
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

    def own(self, node: object) -> bool:
        """A constant that one node alone reads, so that it may change."""
        return isinstance(node, Node) and len(node.users) == 1 and self.get(node) is not None


def fold_into_convolutions(program: ExportedProgram) -> int:
    """Rewrites `program` in place and returns how many operations are gone. Shared weights and values that are read
    elsewhere too are left as they are."""
    constants = _Constants(program)
    folded = 0
    for node in list(program.graph.nodes):
        if node.target is _BATCH_NORM:
            folded += _fold_batch_norm(node, constants)
        elif node.target in _SCALINGS:
            folded += _fold_input_scale(node, constants)
    program.graph.lint()
    program.graph_module.recompile()
    return folded


def _fold_batch_norm(norm: Node, constants: _Constants) -> bool:
    conv, gamma, beta, mean, variance, training, _, eps = norm.args[:8]
    if not isinstance(conv, Node) or conv.target not in _CONVOLUTIONS or len(conv.users) != 1 or training:
        return False
    weight, bias = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
    if not constants.own(weight) or not constants.own(beta) or (bias is not None and not constants.own(bias)):
        return False
    values = [constants.get(n) for n in (weight, gamma, beta, mean, variance)]
    if any(value is None for value in values):
        return False
    w, g, b, m, v = (value.detach().double() for value in values if value is not None)
    old_bias = constants.get(bias)
    scale = g * torch.rsqrt(v + float(eps))  # type: ignore[arg-type]
    assert isinstance(weight, Node) and isinstance(beta, Node)
    constants.put(weight, w * scale.reshape(-1, *[1] * (w.ndim - 1)))
    # The batch norm's own bias carries the sum, because most convolutions before one have no bias to put it in.
    constants.put(beta, b + (0 - m if old_bias is None else old_bias.detach().double() - m) * scale)
    rest = conv.args[3:]
    conv.args = (conv.args[0], weight, beta, *rest)
    norm.replace_all_uses_with(conv)
    norm.graph.erase_node(norm)
    return True


def _fold_input_scale(scaling: Node, constants: _Constants) -> bool:
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
    assert isinstance(weight, Node)
    divide = scaling.target is torch.ops.aten.div.Tensor
    constants.put(weight, value.detach().double() / scale if divide else value.detach().double() * scale)
    scaling.replace_all_uses_with(source)
    scaling.graph.erase_node(scaling)
    return True
