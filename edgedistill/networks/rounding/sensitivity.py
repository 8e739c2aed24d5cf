"""Which layers of a network int8 damages most, measured by rounding one at a time."""

from __future__ import annotations

from torch import nn

from edgedistill.base.arrays import Images, Logits
from edgedistill.documents.specs import Contract, QuantScheme
from edgedistill.networks.rounding.damage import LayerDamage, ranked
from edgedistill.networks.rounding.graph import run_graph, to_graph
from edgedistill.networks.rounding.simulate import simulate
from edgedistill.networks.tasks import task_of


def rank_layers(
    module: nn.Module, contract: Contract, calibration: Images, scheme: QuantScheme, *, probes: int = 64
) -> tuple[LayerDamage, ...]:
    """Every layer of `module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to its outputs), the most damaged first.

    `calibration` are uint8 images [n, 3, R, R] of the training split; ranges come from all of them, the damage is measured
    on the first `probes`. Raises UnsupportedError where the module cannot be traced.
    """
    simulation = simulate(to_graph(module, contract), calibration, scheme)
    images = calibration[:probes]

    def rounding(layers: tuple[str, ...]) -> Logits:
        simulation.round(layers)
        return run_graph(simulation.module, images)

    return ranked(task_of(contract), simulation.rounding, rounding(()), lambda layer: rounding((layer,)))
