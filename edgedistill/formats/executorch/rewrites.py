"""Operations written in those that XNNPACK takes: each rewrite keeps the values up to rounding, and is done only where
shapes and options allow it. What stays is left to ExecuTorch's portable kernels, which are slower and cut the program in
parts.

`to_edge_transform_and_lower` traces the program anew: a rewrite gives new nodes no shapes, but for the one that takes the
place of the old.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from edgedistill.networks.program.passes.fold_constants import fold_constants

_aten = torch.ops.aten
Rewrite = Callable[[Graph, Node], Node | None]

SCALAR_OPERATIONS = {
    getattr(getattr(_aten, name), overload)
    for name in ("add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_")
    for overload in ("Tensor", "Scalar")
}


def rewrite_for_xnnpack(program: ExportedProgram) -> dict[str, int]:
    """All rewrites, in place; how many operations each changed, by its name."""
    counts = {"fold_constants": fold_constants(program), "make_scalars_float": make_scalars_float(program)}
    for targets, rewrite in REWRITES:
        nodes = [node for node in program.graph.nodes if node.op == "call_function" and node.target in targets]
        counts[rewrite.__name__] = sum(_replace(program, node, rewrite) for node in nodes)
    program.graph.eliminate_dead_code()
    return counts


def make_scalars_float(program: ExportedProgram) -> int:
    """Integer scalars added to or multiplied with floating point become floats. ExecuTorch makes tensors of scalars: an
    integer one is cast at every run and keeps the operation out of the delegate."""
    changed = 0
    for node in program.graph.nodes:
        if node.target not in SCALAR_OPERATIONS or not node.meta["val"].dtype.is_floating_point:
            continue
        args = tuple(float(a) if isinstance(a, int) and not isinstance(a, bool) else a for a in node.args)
        changed += any(type(new) is not type(old) for new, old in zip(args, node.args, strict=True))
        node.args = args
    return changed


def hard_sigmoid(graph: Graph, node: Node) -> Node:
    """`hardtanh(x + 3.0, 0, 6) / 6.0`. ExecuTorch's own decomposition has integer constants."""
    moved = graph.call_function(_aten.add.Tensor, (node.args[0], 3.0))
    clamped = graph.call_function(_aten.hardtanh.default, (moved, 0.0, 6.0))
    return graph.call_function(_aten.div.Tensor, (clamped, 6.0))


def attention(graph: Graph, node: Node) -> Node | None:
    """Scaled dot products, softmax, products, in three dimensions. ExecuTorch's decomposition also looks for rows that are
    masked whole, with seven portable kernels over all scores; without such rows it gives the same."""
    arguments = _arguments(node)
    query, key, value, mask = (arguments[name] for name in ("query", "key", "value", "attn_mask"))
    shapes = [_shape(n) for n in (query, key, value)]
    lead = shapes[0][:-2]
    special = arguments["dropout_p"] or arguments["is_causal"] or arguments.get("enable_gqa")
    if special or len(shapes[0]) < 3 or any(shape[:-2] != lead for shape in shapes):
        return None
    if mask is not None and not mask.meta["val"].dtype.is_floating_point:
        return None
    count, rows, columns = math.prod(lead), shapes[0][-2], shapes[1][-2]
    scale = float(arguments.get("scale") or shapes[0][-1] ** -0.5)
    scaled = graph.call_function(_aten.mul.Tensor, (query, scale))
    q = _reshape(graph, scaled, (count, *shapes[0][-2:]))
    k = graph.call_function(_aten.transpose.int, (_reshape(graph, key, (count, *shapes[1][-2:])), 1, 2))
    scores = graph.call_function(_aten.bmm.default, (q, k))
    if mask is not None:
        full = _reshape(graph, scores, (*lead, rows, columns))
        masked = graph.call_function(_aten.add.Tensor, (full, mask))
        scores = _reshape(graph, masked, (count, rows, columns))
    shares = graph.call_function(_aten.softmax.int, (scores, -1))
    mixed = graph.call_function(_aten.bmm.default, (shares, _reshape(graph, value, (count, *shapes[2][-2:]))))
    return _reshape(graph, mixed, _shape(node))


def softmax_of_rows(graph: Graph, node: Node) -> Node | None:
    """A softmax over any other dimension than the last, or over the last of four, becomes one over rows. XNNPACK takes the
    last alone, and its pass for channels-last layouts does not know that softmax depends on the layout: after a convolution
    it is taken over the channels, and the numbers are wrong."""
    arguments = _arguments(node)
    source, shape = arguments["self"], list(_shape(node))
    last, dimension = len(shape) - 1, arguments["dim"] % len(shape)
    if arguments["dtype"] is not None or (dimension == last and len(shape) != 4):
        return None
    moved = source if dimension == last else graph.call_function(_aten.transpose.int, (source, dimension, last))
    shape[dimension], shape[last] = shape[last], shape[dimension]
    rows = _reshape(graph, moved, (math.prod(shape[:-1]), shape[-1]))
    shares = _reshape(graph, graph.call_function(_aten.softmax.int, (rows, -1)), tuple(shape))
    return shares if dimension == last else graph.call_function(_aten.transpose.int, (shares, dimension, last))


def power(graph: Graph, node: Node) -> Node | None:
    """Squares and square roots are operations of their own."""
    arguments = _arguments(node)
    source, exponent = arguments["self"], arguments["exponent"]
    if exponent == 2:
        return graph.call_function(_aten.mul.Tensor, (source, source))
    roots = {0.5: _aten.sqrt.default, -0.5: _aten.rsqrt.default}
    return graph.call_function(roots[exponent], (source,)) if exponent in roots else None


def length(graph: Graph, node: Node) -> Node | None:
    """The Euclidean norm over some dimensions is the root of a sum of squares."""
    arguments = _arguments(node)
    source, dimensions = arguments["self"], arguments["dim"]
    if arguments["ord"] != 2 or dimensions is None or arguments["dtype"] is not None:
        return None
    square = graph.call_function(_aten.mul.Tensor, (source, source))
    total = graph.call_function(_aten.sum.dim_IntList, (square, dimensions, arguments["keepdim"]))
    return graph.call_function(_aten.sqrt.default, (total,))


def matrix_product(graph: Graph, node: Node) -> Node | None:
    """`bmm` in three dimensions where nothing is broadcast. ExecuTorch's decomposition expands both sides, a copy each."""
    left, right = node.args[:2]
    shapes = _shape(left), _shape(right)
    if len(shapes[0]) < 3 or shapes[0][:-2] != shapes[1][:-2]:
        return None
    count = math.prod(shapes[0][:-2])
    sides = [_reshape(graph, n, (count, *s[-2:])) for n, s in zip((left, right), shapes, strict=True)]
    return _reshape(graph, graph.call_function(_aten.bmm.default, tuple(sides)), _shape(node))


def taken_piece(graph: Graph, node: Node) -> Node | None:
    """An element of what `unbind`, `split` or `chunk` give becomes a slice."""
    source: Any
    index: Any
    source, index = node.args
    if source.op != "call_function" or source.target not in _PIECES:
        return None
    whole, dimension = source.args[0], _arguments(source)["dim"]
    sizes = [1 if source.target is _aten.unbind.int else value.shape[dimension] for value in source.meta["val"]]
    begin = sum(sizes[:index])
    piece = graph.call_function(_aten.slice.Tensor, (whole, dimension, begin, begin + sizes[index]))
    return _reshape(graph, piece, _shape(node)) if source.target is _aten.unbind.int else piece


def selected(graph: Graph, node: Node) -> Node | None:
    """`select` becomes a slice without its dimension of one."""
    arguments = _arguments(node)
    source, dimension = arguments["self"], arguments["dim"]
    begin = arguments["index"] % _shape(source)[dimension]
    piece = graph.call_function(_aten.slice.Tensor, (source, dimension, begin, begin + 1))
    return _reshape(graph, piece, _shape(node))


def squeezed(graph: Graph, node: Node) -> Node:
    """`squeeze` is a reshape."""
    return _reshape(graph, node.args[0], _shape(node))


def needless_copy(graph: Graph, node: Node) -> Node | None:
    """An alias, a slice of the whole and an expansion to the shape that there is are nothing."""
    source = node.args[0]
    return source if isinstance(source, Node) and _shape(source) == _shape(node) else None


def broadcast(graph: Graph, node: Node) -> Node | None:
    """An expansion that only additions and products read, whose other side has the full shape, is left to them."""
    source = node.args[0]
    full = _shape(node)
    for user in node.users:
        others = [a for a in user.args if isinstance(a, Node) and a is not node]
        if user.target not in SCALAR_OPERATIONS or len(others) != 1 or _shape(others[0]) != full:
            return None
    return source if isinstance(source, Node) else None


def mean_without_dimensions(graph: Graph, node: Node) -> Node | None:
    """The mean over height and width keeps its dimensions, as XNNPACK's does, and is reshaped."""
    arguments = _arguments(node)
    source, dimensions = node.args[0], arguments["dim"]
    height_and_width = len(_shape(source)) == 4 and sorted(d % 4 for d in dimensions or ()) == [2, 3]
    if arguments["keepdim"] or arguments["dtype"] is not None or not height_and_width:
        return None
    return _reshape(graph, graph.call_function(_aten.mean.dim, (source, [-1, -2], True)), _shape(node))


def pooling_without_ceiling(graph: Graph, node: Node) -> Node | None:
    """Average pooling with `ceil_mode` that rounds nothing up, and padding that is not there, are plain."""
    arguments = _arguments(node)
    kernel, stride, padding = (_pair(arguments[name]) for name in ("kernel_size", "stride", "padding"))
    stride = stride or kernel
    left = [(size - k) % s for size, k, s in zip(_shape(node.args[0])[-2:], kernel, stride, strict=True)]
    if not arguments["ceil_mode"] or arguments["divisor_override"] is not None or any(padding) or any(left):
        return None
    return graph.call_function(_aten.avg_pool2d.default, (node.args[0], list(kernel), list(stride)))


_PIECES = {_aten.unbind.int, _aten.split.Tensor, _aten.split_with_sizes.default, _aten.chunk.default}

REWRITES: tuple[tuple[set[Any], Rewrite], ...] = (
    # First those that are asked about what the others make.
    ({_aten.alias.default, _aten.slice.Tensor, _aten.expand.default, _aten.expand_as.default}, needless_copy),
    ({_aten.expand.default, _aten.expand_as.default}, broadcast),
    ({_aten.softmax.int}, softmax_of_rows),
    ({_aten.pow.Tensor_Scalar}, power),
    ({_aten.linalg_vector_norm.default}, length),
    ({_aten.hardsigmoid.default, _aten.hardsigmoid_.default}, hard_sigmoid),
    ({_aten.scaled_dot_product_attention.default}, attention),
    ({_aten.matmul.default}, matrix_product),
    ({operator.getitem}, taken_piece),
    ({_aten.select.int}, selected),
    ({_aten.squeeze.default, _aten.squeeze.dim, _aten.squeeze.dims}, squeezed),
    ({_aten.mean.dim}, mean_without_dimensions),
    ({_aten.avg_pool2d.default}, pooling_without_ceiling),
)
"""Which operations each rewrite is asked about, in the order in which they are done."""


def _replace(program: ExportedProgram, node: Node, rewrite: Rewrite) -> bool:
    """Puts what `rewrite` makes in the place of `node`; False where it declines."""
    with program.graph.inserting_before(node):
        new = rewrite(program.graph, node)
    if new is None:
        return False
    if new is not node.args[0]:
        new.meta = {key: value for key, value in node.meta.items() if key in ("val", "nn_module_stack", "stack_trace")}
    node.replace_all_uses_with(new)
    program.graph_signature.replace_all_uses(node.name, new.name)
    program.graph.erase_node(node)
    return True


def _arguments(node: Node) -> dict[str, Any]:
    """All arguments of an ATen call by name, defaults included."""
    target: Any = node.target
    defaults = {argument.name: argument.default_value for argument in target._schema.arguments}
    return {**defaults, **dict(zip(defaults, node.args, strict=False)), **node.kwargs}


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _reshape(graph: Graph, node: Any, shape: tuple[int, ...]) -> Node:
    return graph.call_function(_aten.reshape.default, (node, list(shape)))


def _pair(sizes: Any) -> tuple[int, ...]:
    """A list of one or two sizes as two; none as none."""
    values = tuple(sizes or ())
    return values * 2 if len(values) == 1 else values
