"""The mean error of each layer's output under rounding, taken out by its bias.

Nagel et al. 2019 ("Data-free quantization through weight equalization and bias correction", section 4.2) with means taken
on calibration images (their appendix D): layer by layer from the input on, so that each correction sees the ones before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node

from edgedistill.documents.specs import QuantScheme
from edgedistill.networks.rounding.graph import TracedLayer, Watching, add_to_bias, channel_axis, copied, layers_of
from edgedistill.networks.rounding.pt2e import as_input
from edgedistill.networks.rounding.simulate import simulate


def correct_biases(
    graph: GraphModule, calibration: NDArray[np.uint8], scheme: QuantScheme, *, images: int = 128, batch: int = 32
) -> GraphModule:
    """A copy of `graph` with every layer's bias moved by what rounding as `scheme` says shifts its output, on average over
    the first `images` of the uint8 images [n, 3, R, R] and all places. All of these go through the rounded graph at once:
    later layers need the means of earlier ones."""
    chosen = calibration[:images]
    wanted = _means(graph, chosen, batch)
    simulation = simulate(graph, calibration, scheme)
    by_node = {layer.node: layer for layer in layers_of(graph).values()}
    rounded = {node.name: layer for node, layer in by_node.items()}
    corrections: dict[str, Tensor] = {}

    def seen(node: Node, value: Any) -> Any:
        layer = rounded.get(node.name)
        if layer is None:
            return value
        correction = wanted[layer.name] - _mean(layer, value)
        corrections[layer.name] = correction
        return value + correction.reshape(
            [-1 if a == channel_axis(layer) % value.ndim else 1 for a in range(value.ndim)]
        )

    with torch.no_grad():
        Watching(simulation.module, seen).run(as_input(chosen))
    made = copied(graph)
    for name, layer in layers_of(made).items():
        add_to_bias(made, layer, corrections[name])
    return made


def _means(graph: GraphModule, images: NDArray[np.uint8], batch: int) -> dict[str, Tensor]:
    """Mean output of each layer, [out], without rounding."""
    by_node = {layer.node: layer for layer in layers_of(graph).values()}
    sums: dict[str, Tensor] = {}

    def seen(node: Node, value: Any) -> Any:
        if (layer := by_node.get(node)) is not None:
            sums[layer.name] = sums.get(layer.name, 0) + _mean(layer, value) * len(value)
        return value

    with torch.no_grad():
        for start in range(0, len(images), batch):
            Watching(graph, seen).run(as_input(images[start : start + batch]))
    return {name: total / len(images) for name, total in sums.items()}


def _mean(layer: TracedLayer, value: Tensor) -> Tensor:
    axis = channel_axis(layer) % value.ndim
    return value.mean([a for a in range(value.ndim) if a != axis])
