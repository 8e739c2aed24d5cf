"""What a module computes, operation by operation, without its weights.

The module runs once at batch 1 under a dispatch mode that sees every aten operation, residual additions and attention
included, which hooks on layers would miss. On the meta device that costs no memory and no arithmetic; a loaded teacher
runs on its own device. Operations are then fused as ONNX Runtime fuses them on a CPU: batch norm, residual addition and
activation into the convolution before, in this order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from edgedistill.networks.shapes import Shapes
from edgedistill.networks.structure import BLOCK, BYTES_PER_ELEMENT, SUBLINEAR, OperationKind, Structure, Totals
from edgedistill.networks.tracing import Call, record


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the fused graph at batch 1. Bytes are those of fp32."""

    kind: OperationKind
    name: str
    multiply_adds: int
    blocked_multiply_adds: int
    window_pixels: int
    read_bytes: int
    written_bytes: int
    weights_bytes: int


def structure_of(module: nn.Module, resolution: int, shapes: Shapes | None = None) -> Structure:
    """Figures of a deployed module that takes float [1, 3, R, R]; of any model in eval mode, a teacher too. Runs it once on
    the device of its weights. Raises ValueError in training mode, where dropout and batch statistics would count. With
    `shapes` it is faster for the next of many modules on the meta device, and the figures are the same. Count a module once:
    some keep what their first run computed, and compute less in the next."""
    operations, peak = trace(module, resolution, shapes)
    by_kind = {kind: [operation for operation in operations if operation.kind is kind] for kind in OperationKind}
    totals = tuple(_total(kind, found) for kind, found in by_kind.items() if found)
    return Structure(
        parameters=sum(t.weights_bytes for t in totals) // BYTES_PER_ELEMENT,
        multiply_adds=sum(t.multiply_adds for t in totals),
        activation_bytes=peak,
        totals=totals,
    )


def trace(module: nn.Module, resolution: int, shapes: Shapes | None = None) -> tuple[tuple[Operation, ...], int]:
    """The fused operations in the order they run, and the peak of living activations in bytes."""
    if module.training:
        raise ValueError("count a module in eval mode: deploy it first")
    tensor = next(chain(module.parameters(), module.buffers()), torch.empty(0))
    calls = record(module, torch.zeros(1, 3, resolution, resolution, device=tensor.device), shapes)
    return _fuse(calls, image_bytes=3 * resolution * resolution * BYTES_PER_ELEMENT)


def _total(kind: OperationKind, operations: Sequence[Operation]) -> Totals:
    return Totals(
        kind=kind,
        count=len(operations),
        multiply_adds=sum(o.multiply_adds for o in operations),
        blocked_multiply_adds=sum(o.blocked_multiply_adds for o in operations),
        window_pixels=sum(o.window_pixels for o in operations),
        read_bytes=sum(o.read_bytes for o in operations),
        written_bytes=sum(o.written_bytes for o in operations),
        weights_bytes=sum(o.weights_bytes for o in operations),
        sublinear_work=sum(_work(o) ** SUBLINEAR for o in operations),
    )


def _work(operation: Operation) -> int:
    return (
        operation.blocked_multiply_adds if operation.kind.multiplies else operation.read_bytes + operation.written_bytes
    )


# -- what an aten call is ---------------------------------------------------------------------------------------

_POOLS = ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool", "mean", "amax", "_adaptive_avg_pool")
_COPIES = ("cat", "stack", "permute", "transpose", "slice", "select", "split", "unbind", "pad", "constant_pad", "roll",
           "repeat", "index", "copy_", "_to_copy", "pixel", "unfold", "upsample", "flip")  # fmt: skip
# An exponential, a power or a root an element: tens of cycles where an addition takes one.
_TRANSCENDENTAL = ("gelu", "silu", "sigmoid", "tanh", "mish", "elu", "selu", "exp", "erf", "log", "pow", "sqrt", "rsqrt",
                   "softmax", "_softmax", "_safe_softmax", "log_softmax", "softplus")  # fmt: skip
_NORMALISATIONS = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "vector_norm", "var_mean", "var", "std")
_FUSED_ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "hardtanh", "clamp", "hardsigmoid")
_FEW = 4
_ORDER = {"batch_norm": 1, "add": 2, "activation": 3}


def _kind(call: Call) -> OperationKind:
    name = call.name
    if name == "convolution":
        weight, groups = call.shapes[1], call.groups
        if groups > 1:
            return OperationKind.DEPTHWISE if weight[1] == 1 else OperationKind.GROUPED
        return OperationKind.POINTWISE if all(side == 1 for side in weight[2:]) else OperationKind.CONV
    if name in ("addmm", "mm", "linear"):
        return OperationKind.GEMM if len(call.inputs) == 1 else OperationKind.MATMUL
    if name in ("bmm", "baddbmm") or name.startswith("_scaled_dot_product"):
        return OperationKind.MATMUL
    if name.startswith(_POOLS):
        return OperationKind.POOL
    if name.startswith(_COPIES):
        return OperationKind.COPY
    if name.rstrip("_") in _TRANSCENDENTAL:
        return OperationKind.TRANSCENDENTAL
    return OperationKind.NORMALISATION if name.endswith(_NORMALISATIONS) else OperationKind.ELEMENTWISE


def _multiply_adds(call: Call) -> int:
    shapes, out = call.shapes, call.output_shape
    if call.name == "convolution":
        return _window_pixels(call) * (shapes[0] if call.transposed else out)[1] * shapes[1][1]
    if call.name in ("addmm", "baddbmm"):
        return math.prod(out) * shapes[1][-1]
    if call.name in ("mm", "bmm", "linear"):
        return math.prod(out) * shapes[0][-1]
    if call.name.startswith("_scaled_dot_product"):
        query, key, value = shapes[:3]
        return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    return 0


def _blocked_multiply_adds(call: Call) -> int:
    if call.name != "convolution" or call.transposed or (call.groups > 1 and call.shapes[1][1] > 1):
        return _multiply_adds(call)
    outputs, inputs = call.output_shape[1], call.shapes[1][1]
    # An image's few channels are read one by one, and so is the one channel of a depthwise filter.
    return _window_pixels(call) * _blocked(outputs) * (_blocked(inputs) if inputs > _FEW else inputs)


def _blocked(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def _window_pixels(call: Call) -> int:
    if call.name != "convolution":
        return 0
    # A transposed convolution applies its whole kernel at every input pixel, a plain one at every output pixel.
    places = call.shapes[0] if call.transposed else call.output_shape
    return places[0] * math.prod(places[2:]) * math.prod(call.shapes[1][2:])


# -- fusion and liveness ----------------------------------------------------------------------------------------


def _fuse(calls: Sequence[Call], image_bytes: int) -> tuple[tuple[Operation, ...], int]:
    """Operations after fusion, and the peak of living bytes. Value 0 is the image; call i makes value i + 1."""
    readers = Counter(value for call in calls for value in call.inputs)
    root = list(range(len(calls) + 1))
    kinds = [OperationKind.COPY, *(_kind(call) for call in calls)]
    stage = [0] * (len(calls) + 1)
    extra_reads: dict[int, list[int]] = defaultdict(list)
    folded_bias: dict[int, int] = {}
    for number, call in enumerate(calls, 1):
        role = _fusible_role(call)
        hosts = [
            v
            for v in call.inputs
            if readers[v] == 1 and kinds[root[v]].convolves and stage[root[v]] < _ORDER.get(role, 0)
        ]
        if not hosts:
            continue
        host_value = max(hosts, key=lambda v: root[v])
        host = root[host_value]
        others = [root[v] for v in call.inputs if v != host_value]
        if any(other > host for other in others):
            continue
        root[number], stage[host] = host, _ORDER[role]
        extra_reads[host] += others
        if role == "batch_norm" and not calls[host - 1].has_bias:
            folded_bias[host] = call.output_shape[1]

    sizes = [image_bytes, *(call.output_bytes for call in calls)]
    kept = [number for number in range(1, len(calls) + 1) if root[number] == number]
    reads = {n: [root[v] for v in calls[n - 1].inputs] + extra_reads[n] for n in kept}
    last_read = {value: n for n in kept for value in reads[n]}
    operations = []
    for number in kept:
        call = calls[number - 1]
        constants = call.weight_elements + folded_bias.get(number, 0)
        operations.append(
            Operation(
                kind=kinds[number],
                name=call.name,
                multiply_adds=_multiply_adds(call),
                blocked_multiply_adds=_blocked_multiply_adds(call),
                window_pixels=_window_pixels(call),
                read_bytes=sum(sizes[v] for v in reads[number]),
                written_bytes=sizes[number],
                weights_bytes=constants * BYTES_PER_ELEMENT,
            )
        )
    return tuple(operations), _peak(kept, last_read, sizes)


def _peak(kept: Sequence[int], last_read: Mapping[int, int], sizes: Sequence[int]) -> int:
    """The most bytes alive at once. A value lives from the operation that makes it, the image (value 0) from the first one,
    up to its last reader; one that no operation reads, for its own."""
    dying: dict[int, int] = defaultdict(int)
    for value in kept:
        dying[max(value, last_read.get(value, 0))] += sizes[value]
    dying[last_read.get(0, 0)] += sizes[0]
    alive, peak = sizes[0] - dying[0], 0
    for number in kept:
        alive += sizes[number]
        peak = max(peak, alive)
        alive -= dying[number]
    return peak


def _fusible_role(call: Call) -> str:
    if "batch_norm" in call.name:
        return "batch_norm"
    if call.name in ("add", "add_") and len(call.inputs) == 2 and call.shapes[0] == call.shapes[1]:
        return "add"
    return "activation" if call.name.rstrip("_") in _FUSED_ACTIVATIONS else ""
