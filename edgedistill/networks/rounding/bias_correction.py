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
from edgedistill.networks.rounding.graph import TracedLayer, Watching, add_to_bias, copied, layers_of, other_axes
from edgedistill.networks.rounding.pt2e import as_input, run_batches
from edgedistill.networks.rounding.simulate import simulate


def correct_biases(
    graph: GraphModule, calibration: NDArray[np.uint8], scheme: QuantScheme, *, images: int = 128
) -> GraphModule:
    """A copy of `graph` with every layer's bias moved by what rounding as `scheme` says shifts its output, on average over
    the first `images` of the uint8 images [n, 3, R, R] and all places. All of these go through the rounded graph at once:
    later layers need the means of earlier ones."""
    chosen = calibration[:images]
    wanted = _means(graph, chosen)
    simulation = simulate(graph, calibration, scheme)
    rounded = {layer.node.name: layer for layer in layers_of(graph).values()}
    corrections: dict[str, Tensor] = {}

    def seen(node: Node, value: Any) -> Any:
        layer = rounded.get(node.name)
        if layer is None:
            return value
        correction = wanted[layer.name] - _mean(layer, value)
        corrections[layer.name] = correction.flatten()
        return value + correction

    with torch.no_grad():
        Watching(simulation.module, seen).run(as_input(chosen))
    made = copied(graph)
    for name, layer in layers_of(made).items():
        add_to_bias(made, layer, corrections[name])
    return made


def _means(graph: GraphModule, images: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Mean output of each layer without rounding, as `_mean` gives it."""
    by_node = {layer.node: layer for layer in layers_of(graph).values()}
    sums: dict[str, Tensor] = {}

    def seen(node: Node, value: Any) -> Any:
        if (layer := by_node.get(node)) is not None:
            sums[layer.name] = sums.get(layer.name, 0) + _mean(layer, value) * len(value)
        return value

    run_batches(Watching(graph, seen).run, images)
    return {name: total / len(images) for name, total in sums.items()}


def _mean(layer: TracedLayer, value: Tensor) -> Tensor:
    """The mean of each channel, with as many axes as `value`."""
    return value.mean(other_axes(layer, value), keepdim=True)
