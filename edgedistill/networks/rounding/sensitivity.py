"""Which layers of a network int8 damages most, measured by rounding one at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.documents.specs import Contract, QuantScheme
from edgedistill.networks.rounding.damage import LayerDamage, Logits, ranked
from edgedistill.networks.rounding.graph import run_graph, to_graph
from edgedistill.networks.rounding.simulate import simulate


def rank_layers(
    module: nn.Module, contract: Contract, calibration: NDArray[np.uint8], scheme: QuantScheme, *, probes: int = 64
) -> tuple[LayerDamage, ...]:
    """Every layer of `module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to logits), the most damaged first.

    `calibration` are uint8 images [n, 3, R, R] of the training split; ranges come from all of them, the damage is measured
    on the first `probes`. Raises UnsupportedError where the module cannot be traced.
    """
    simulation = simulate(to_graph(module, contract), calibration, scheme)
    images = calibration[:probes]

    def rounding(layers: tuple[str, ...]) -> Logits:
        simulation.round(layers)
        return run_graph(simulation.module, images)

    return ranked(simulation.rounding, rounding(()), lambda layer: rounding((layer,)))
