"""A graph whose layers can be rounded to int8 one by one: what sensitivity, bias correction and QAT look at.

Rounded are a layer's weight (symmetric, a channel at a time), its input and its output (a tensor at a time, with a zero
point), the output after a ReLU or clamp that follows, as runtimes fuse them. No format rounds exactly so; all round at
these places, and what a layer loses here it loses there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgedistill.documents.specs import QuantScheme
from edgedistill.networks.rounding.graph import TracedLayer, copied, layers_of
from edgedistill.networks.rounding.observers import activation_observer
from edgedistill.networks.rounding.pt2e import run_batches

_aten = torch.ops.aten
_FUSED = {
    _aten.relu.default,
    _aten.relu_.default,
    _aten.hardtanh.default,
    _aten.hardtanh_.default,
    _aten.clamp.default,
    _aten.clamp_.default,
}
_SMALLEST_SCALE = 2.0**-24


class WeightRounding(nn.Module):
    """Symmetric int8 with scales of the weight as it is now, one for each output channel if `per_channel`. The gradient
    passes the rounding as if it were not there (straight-through)."""

    def __init__(self, per_channel: bool) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.enabled = False

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` [out, ...], rounded where enabled."""
        if not self.enabled:
            return weight
        flat = weight.detach().abs().flatten(1)
        largest = flat.amax(1) if self.per_channel else flat.amax().expand(len(weight))
        scale = (largest / 127).clamp_min(_SMALLEST_SCALE)
        zero = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)


class ActivationRounding(nn.Module):
    """uint8 with the range that `observer`, one of torchao's, sees until it `settle`s. Gradients pass inside it."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, observer: Any) -> None:
        super().__init__()
        self.observer: Any = observer
        self.enabled = False
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    def forward(self, value: Tensor) -> Tensor:
        """`value` of any shape, rounded where enabled."""
        if self.observer is not None:
            self.observer(value.detach().contiguous())
        if not self.enabled:
            return value
        return torch.fake_quantize_per_tensor_affine(value, self.scale, self.zero_point, 0, 255)

    def settle(self) -> None:
        """Takes the range seen so far and lets go of what saw it."""
        scale, zero_point = self.observer.calculate_qparams()
        self.scale.copy_(scale.reshape(()))
        self.zero_point.copy_(zero_point.reshape(()).to(torch.int32))
        self.observer = None


@dataclass(frozen=True, eq=False)
class Simulation:
    """`module` computes as the graph that it was made from, its parameters under the same names; `rounding` are the modules
    that round for each layer, by name, in the order in which layers run."""

    module: GraphModule
    rounding: dict[str, tuple[WeightRounding | ActivationRounding, ...]]

    def round(self, layers: Collection[str]) -> None:
        """Round these layers and no others."""
        for name, modules in self.rounding.items():
            for one in modules:
                one.enabled = name in layers


def simulate(graph: GraphModule, calibration: NDArray[np.uint8], scheme: QuantScheme) -> Simulation:
    """A copy of `graph` that can round its layers; all are rounded, but those of `scheme.kept`. Ranges are read off
    `calibration`, uint8 images [n, 3, R, R], as `scheme.calibration` says."""
    made = copied(graph)
    observer = activation_observer(scheme.calibration)
    rounding = {
        name: _insert(made, layer, number, scheme.per_channel, observer)
        for number, (name, layer) in enumerate(layers_of(made).items())
    }
    made.recompile()
    run_batches(made, calibration)
    for module in [m for m in made.modules() if isinstance(m, ActivationRounding)]:
        module.settle()
    simulation = Simulation(made, rounding)
    simulation.round(set(rounding) - set(scheme.kept))
    return simulation


def _insert(
    graph: GraphModule, layer: TracedLayer, number: int, per_channel: bool, observer: Any
) -> tuple[WeightRounding | ActivationRounding, ...]:
    def activation() -> ActivationRounding:
        settings = {"dtype": torch.uint8, "qscheme": torch.per_tensor_affine, "quant_min": 0, "quant_max": 255}
        return ActivationRounding(observer(**settings))

    node = layer.node
    own = (activation(), WeightRounding(per_channel), activation())
    for role, module in zip(("input", "weight", "output"), own, strict=True):
        graph.add_submodule(f"rounding_{number}_{role}", module)
    with graph.graph.inserting_before(node):
        source = graph.graph.call_module(f"rounding_{number}_input", (node.args[0],))
        weight = graph.graph.call_module(f"rounding_{number}_weight", (node.args[1],))
    node.args = (source, weight, *node.args[2:])
    last = _fused(node)
    with graph.graph.inserting_after(last):
        output = graph.graph.call_module(f"rounding_{number}_output", (last,))
    last.replace_all_uses_with(output, delete_user_cb=lambda user: user is not output)
    return own


def _fused(node: Node) -> Node:
    """The activation that alone reads a layer and is computed with it, else the layer."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in _FUSED else node
