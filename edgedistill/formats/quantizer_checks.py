"""What a quantiser is given, checked before it starts."""

from __future__ import annotations

import difflib
from collections.abc import Collection

import numpy as np

from edgedistill.base.arrays import Images
from edgedistill.base.errors import InputError, Problem


def require_images(calibration: Images, size: tuple[int, ...], name: str) -> None:
    """Raises InputError unless `calibration` is one uint8 image or more of that `size`, [3, R, R]. `name` is the model's."""
    if calibration.dtype != np.uint8 or calibration.shape[1:] != size or not len(calibration):
        raise InputError(
            f"calibration images are {calibration.dtype} {calibration.shape}, {name} takes uint8 {size}",
            fix="give at least one training image at the model's resolution",
        )


def require_layers(kept: Collection[str], known: Collection[str]) -> None:
    """Raises InputError naming every layer of `kept` that is not among those `known`, with the name nearest to it."""
    problems = []
    for name in sorted(set(kept) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        problems.append(Problem(name, "no layer of that name", f"did you mean {near[0]}?" if near else ""))
    if problems:
        raise InputError("the scheme keeps layers that the model does not have", problems=problems)
