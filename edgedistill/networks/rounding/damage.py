"""What rounding one layer does to a network's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.arrays import Logits
from edgedistill.documents.specs import Frozen


class LayerDamage(Frozen):
    """A layer by name, and the mean divergence in nats of the network's answers when it alone is rounded."""

    layer: str
    divergence: float


def divergence(reference: Logits, logits: Logits) -> float:
    """KL(softmax(reference) || softmax(logits)), the mean over rows of float32 [n, classes]; at least 0."""
    p, q = _log_softmax(reference), _log_softmax(logits)
    return max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean()))


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


def ranked(layers: Iterable[str], reference: Logits, alone: Callable[[str], Logits]) -> tuple[LayerDamage, ...]:
    """Every layer, the most damaging first: `alone` gives the logits, for the images of `reference`, of the network in which
    that layer alone is rounded. Equal damage keeps the order of `layers`."""
    found = [LayerDamage(layer=layer, divergence=divergence(reference, alone(layer))) for layer in layers]
    return tuple(sorted(found, key=lambda damage: -damage.divergence))
