"""Channels of neighbouring layers evened out, so that one scale a tensor fits them all.

Where a layer's output goes through positively homogeneous operations alone (ReLU, pooling) into other layers, dividing its
channel i by s_i and multiplying what reads that channel by s_i changes nothing: f(x / s) = f(x) / s. Nagel et al. 2019
("Data-free quantization through weight equalization and bias correction", eq. 11) take s = sqrt(r1 / r2), r1 and r2 the
ranges of the weights on either side. Here weights have a scale a channel, and what has one scale is the activation between
them: r1 is its range on the calibration images, as in SmoothQuant (Xiao et al. 2023, eq. 4, alpha = 1/2), and the same is
done where a norm stands in the first layer's place. A depthwise layer reads one channel a row, and its weights' scales take
any factor, so s = r1 there.

Factors are powers of two: every product and sum is then the same up to its exponent, and the network's answers do not change
in a single bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node

from edgedistill.networks.rounding.graph import (
    CONVOLUTION,
    LINEAR,
    TracedLayer,
    Watching,
    copied,
    layers_of,
    other_axes,
    overwrite,
    tensor,
)
from edgedistill.networks.rounding.pt2e import run_batches

_aten = torch.ops.aten
_ELEMENTWISE = {_aten.relu.default, _aten.relu_.default, _aten.leaky_relu.default, _aten.leaky_relu_.default}
_POOLING = {
    _aten.max_pool2d.default,
    _aten.avg_pool2d.default,
    _aten.adaptive_avg_pool2d.default,
    _aten.mean.dim,
    _aten.flatten.using_ints,
}
_NORMS = {_aten.layer_norm.default: (2, 3), _aten.batch_norm.default: (1, 2)}
"""Where a norm's weight and bias stand among its arguments."""

_LARGEST_EXPONENT = 6


@dataclass(frozen=True)
class Seam:
    """A channel axis between `producer`, whose tensors `scaled` [channels, ...] give it, and the layers that read it."""

    producer: str
    scaled: tuple[str, ...]
    readers: tuple[TracedLayer, ...]


def equalize(graph: GraphModule, calibration: NDArray[np.uint8]) -> GraphModule:
    """A copy of `graph` that computes the same with evener channels; ranges are those on uint8 images [n, 3, R, R]."""
    made = copied(graph)
    seams = seams_of(made)
    ranges = _channel_ranges(made, (reader for seam in seams for reader in seam.readers), calibration)
    for seam in seams:
        factors = _factors(made, seam, torch.stack([ranges[reader.name] for reader in seam.readers]).amax(0))
        for name in seam.scaled:
            value = tensor(made, name)
            overwrite(made, name, value / factors.reshape(-1, *[1] * (value.ndim - 1)))
        for reader in seam.readers:
            overwrite(made, reader.weight, _grouped(made, reader, factors))
    return made


def seams_of(graph: GraphModule) -> tuple[Seam, ...]:
    """Every place where channels can be rescaled, in the order in which they run."""
    layers = layers_of(graph)
    by_node = {layer.node: layer for layer in layers.values()}
    found = []
    for node in graph.graph.nodes:
        if (layer := by_node.get(node)) is not None:
            name, scaled = layer.name, (layer.weight, *([layer.bias] if layer.bias else []))
        elif node.target in _NORMS:
            places = [node.args[place] for place in _NORMS[node.target]]
            if not all(isinstance(p, Node) and p.op == "get_attr" and len(p.users) == 1 for p in places):
                continue
            name, scaled = node.name, tuple(str(p.target) for p in places)
        else:
            continue
        channels = tensor(graph, scaled[0]).shape[0]
        readers = _readers(node, by_node, by_channel=node.target in (CONVOLUTION, _aten.batch_norm.default))
        if readers and all(_channels(graph, reader) == channels for reader in readers):
            found.append(Seam(name, scaled, tuple(readers)))
    return tuple(found)


def _readers(node: Node, by_node: dict[Node, TracedLayer], *, by_channel: bool) -> list[TracedLayer] | None:
    """The layers that read a value through operations that a factor passes; None where anything else reads it too.
    `by_channel`: its channels lie along axis 1, so that pooling over the others is one of those operations."""
    found: list[TracedLayer] = []
    for user in node.users:
        if user in by_node and user.args[0] is node:
            flat = len(node.meta["val"].shape) == 2
            if by_channel != (user.target is CONVOLUTION) and not (by_channel and flat):
                return None
            found.append(by_node[user])
        elif user.target in _ELEMENTWISE or (by_channel and user.target in _POOLING and _keeps_channels(user)):
            further = _readers(user, by_node, by_channel=by_channel)
            if further is None:
                return None
            found += further
        else:
            return None
    return found


def _keeps_channels(node: Node) -> bool:
    """Whether axis 1 is still the channels: a mean over others, a flattening of pixels that are one."""
    before, after = node.args[0].meta["val"].shape, node.meta["val"].shape  # type: ignore[union-attr]
    if node.target is _aten.mean.dim:
        axes = node.args[1]
        assert isinstance(axes, list | tuple)
        return len(before) == 4 and sorted(int(axis) % 4 for axis in axes) == [2, 3]  # type: ignore[arg-type]
    return bool(before[1] == after[1])


def _channels(graph: GraphModule, layer: TracedLayer) -> int:
    return int(tensor(graph, layer.weight).shape[1]) * layer.groups


def _channel_ranges(
    graph: GraphModule, readers: Iterable[TracedLayer], calibration: NDArray[np.uint8]
) -> dict[str, Tensor]:
    """The largest absolute value of each input channel of each layer."""
    wanted: dict[Node, list[TracedLayer]] = {}
    for layer in readers:
        source = layer.node.args[0]
        assert isinstance(source, Node)
        wanted.setdefault(source, []).append(layer)
    found: dict[str, Tensor] = {}

    def seen(node: Node, value: Tensor) -> Tensor:
        for layer in wanted.get(node, ()):
            largest = value.abs().amax(other_axes(layer, value))
            found[layer.name] = torch.maximum(found.get(layer.name, largest), largest)
        return value

    run_batches(Watching(graph, seen).run, calibration)
    return found


def _factors(graph: GraphModule, seam: Seam, activation: Tensor) -> Tensor:
    """Powers of two [channels], their geometric mean near one; one where a channel is always zero."""
    if all(reader.node.target is not LINEAR and reader.groups == len(activation) for reader in seam.readers):
        wanted = activation
    else:
        weights = torch.stack([_reading(graph, reader) for reader in seam.readers]).amax(0)
        wanted = torch.sqrt(activation / weights.clamp_min(1e-12))
    alive = (activation > 0) & (wanted > 0)
    exponents = torch.where(alive, wanted.clamp_min(1e-30).log2(), torch.zeros(()))
    middle = exponents[alive].mean() if bool(alive.any()) else torch.zeros(())
    shifted = (exponents - middle).round().clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return torch.where(alive, torch.exp2(shifted), torch.ones(()))


def _reading(graph: GraphModule, layer: TracedLayer) -> Tensor:
    """How much of a row's own range the weights on each input channel take, at most 1: [channels]."""
    weight = tensor(graph, layer.weight).detach().abs()
    largest = weight.reshape(*weight.shape[:2], -1).amax(2)
    share = largest / largest.amax(1, keepdim=True).clamp_min(1e-30)
    return share.reshape(layer.groups, -1, share.shape[1]).amax(1).flatten()


def _grouped(graph: GraphModule, layer: TracedLayer, factors: Tensor) -> Tensor:
    """A layer's weight with each input channel multiplied by its factor."""
    weight = tensor(graph, layer.weight)
    by_group = weight.reshape(layer.groups, -1, *weight.shape[1:])
    scale = factors.reshape(layer.groups, 1, -1, *[1] * (weight.ndim - 2))
    return (by_group * scale).reshape(weight.shape)
