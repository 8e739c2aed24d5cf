"""What rounding one layer does to a network's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgedistill.base.arrays import Logits
from edgedistill.documents.specs import Frozen
from edgedistill.networks.tasks import Task


class LayerDamage(Frozen):
    """A layer by name, and how far the network's answers are from its own when that layer alone is rounded, by its task's
    `distance`."""

    layer: str
    distance: float


def ranked(
    task: Task, layers: Iterable[str], reference: Logits, alone: Callable[[str], Logits]
) -> tuple[LayerDamage, ...]:
    """Every layer, the most damaging first: `alone` gives the outputs, for the images of `reference`, of the network in
    which that layer alone is rounded. Equal damage keeps the order of `layers`."""
    found = [LayerDamage(layer=layer, distance=task.distance(reference, alone(layer))) for layer in layers]
    return tuple(sorted(found, key=lambda damage: -damage.distance))
