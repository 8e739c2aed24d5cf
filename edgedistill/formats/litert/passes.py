"""Rewrites of the torch program that LiteRT's converter needs and the shared program does not have."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

_aten = torch.ops.aten
_POOLING: tuple[Any, ...] = (None, [], 0, False, True, None)
"""Defaults of `avg_pool2d` behind its input: kernel (has none), stride, padding, ceil_mode, count_include_pad, divisor."""
_EXPANDS = {_aten.expand.default, _aten.expand_as.default}
_BROADCASTING = {_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor}


def drop_expands(module: GraphModule) -> int:
    """Hands a tensor as it is to arithmetic that broadcasts it anyway, without an `expand` before, in place: behind a sum
    over an axis that the converter moves it ends in "operands don't have broadcast-compatible shapes". Only where the other
    operand has the whole shape. Returns how many are gone."""
    dropped = 0
    for node in list(module.graph.nodes):
        if node.target in _EXPANDS and node.users and all(_broadcasts(user, node) for user in node.users):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
            dropped += 1
    module.recompile()
    return dropped


def keep_nearest(module: GraphModule) -> int:
    """Turns nearest-neighbour resizing by other than whole factors into the selection of rows and columns that it is, in
    place: the converter's RESIZE_NEAREST_NEIGHBOR has half-pixel centres and reads other pixels. Returns how many."""
    changed = 0
    for node in list(module.graph.nodes):
        if node.target is not _aten.upsample_nearest2d.vec or not isinstance(node.args[0], Node):
            continue
        before, after = node.args[0].meta["val"].shape[-2:], node.meta["val"].shape[-2:]
        given = node.args[2] if len(node.args) > 2 else None
        factors = list(given) if isinstance(given, list | tuple) else []
        if all(b % a == 0 for a, b in zip(before, after)) and all(float(str(f)).is_integer() for f in factors):
            continue
        rows, columns = torch.meshgrid(*(torch.arange(float(size)) for size in before), indexing="ij")
        rows, columns = (node.target(grid[None, None], *node.args[1:])[0, 0].long() for grid in (rows, columns))
        result = node.args[0]
        with module.graph.inserting_before(node):
            for axis, indices in ((2, rows[:, 0]), (3, columns[0])):
                name = f"nearest_{changed}_{axis}"
                module.register_buffer(name, indices.contiguous())
                result = module.graph.call_function(
                    _aten.index_select.default, (result, axis, module.graph.get_attr(name))
                )
        result.meta = dict(node.meta)
        node.replace_all_uses_with(result)
        module.graph.erase_node(node)
        changed += 1
    module.recompile()
    return changed


def plain_pooling(module: GraphModule) -> int:
    """Takes from average pooling what makes no difference at these sizes, in place: rounding up where the windows fit,
    leaving out of the mean a padding that is not there. With both the converter makes STABLEHLO_REDUCE_WINDOW of it, for
    which there is no fast kernel. Returns how many were changed."""
    changed = 0
    for node in module.graph.nodes:
        if node.target is not _aten.avg_pool2d.default or not isinstance(node.args[0], Node):
            continue
        given: tuple[Any, ...] = node.args[1:]
        kernel, stride, padding, ceil, counted, divisor = (*given, *_POOLING[len(given) :])
        stride = stride or kernel
        sizes = node.args[0].meta["val"].shape[-2:]
        fits = all(
            (size + 2 * p - k) % s == 0 for size, k, s, p in zip(sizes, _pair(kernel), _pair(stride), _pair(padding))
        )
        plain = (kernel, stride, padding, ceil and not fits, counted or (fits and not any(_pair(padding))), divisor)
        if plain[3:5] != (ceil, counted):
            node.args = (node.args[0], *plain)
            changed += 1
    module.recompile()
    return changed


def _pair(value: Any) -> tuple[int, int]:
    """A size that torch takes for both axes, given once or twice."""
    values = [value] if isinstance(value, int) else list(value)
    return values[0], values[-1]


def _broadcasts(user: Node, expanded: Node) -> bool:
    """Whether `user` gives the same without the expansion: the other operand is a tensor of the result's shape."""
    others = [argument for argument in user.args[:2] if argument is not expanded]
    if user.target not in _BROADCASTING or len(others) != 1 or not isinstance(others[0], Node):
        return False
    shape = user.meta["val"].shape
    return bool(others[0].meta["val"].shape == shape and expanded.meta["val"].shape == shape)
