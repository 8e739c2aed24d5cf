"""Images that every network takes, to see what it answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgedistill.documents.specs import Contract


def probe_images(contract: Contract, count: int = 1) -> NDArray[np.uint8]:
    """`count` images uint8 [count, 3, R, R], the same on every call: coarse random colour fields with fine noise, which
    spread over 0..255 and vary from pixel to pixel, as photographs do and white noise does not."""
    side = contract.resolution
    generator = np.random.default_rng(0)
    cells = generator.uniform(0, 255, (count, 3, 4, 4))
    index = np.arange(side) * 4 // side
    fields = cells[:, :, index][:, :, :, index] + generator.normal(0, 16, (count, 3, side, side))
    return np.clip(np.rint(fields), 0, 255).astype(np.uint8)
