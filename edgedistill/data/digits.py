"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8, nothing to fetch."""

from __future__ import annotations

import numpy as np

from edgedistill.base.errors import MissingDependencyError
from edgedistill.data.sources import GreyImages, Loaded


def load_digits() -> Loaded:
    """The digits as uint8: their levels 0..16 become round(level * 255 / 16). No split comes with them."""
    try:
        from sklearn.datasets import load_digits as load  # type: ignore[import-untyped]
    except ImportError:
        raise MissingDependencyError('source = "digits" needs scikit-learn', fix="pip install scikit-learn") from None
    found = load()
    labels = found.target.astype(np.int64)
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    return Loaded(
        "digits", tuple(str(digit) for digit in range(10)), labels, GreyImages(pixels), np.arange(len(labels))
    )
