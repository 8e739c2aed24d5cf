"""How many channels and blocks are left of some at a width and a depth."""

from __future__ import annotations

import math

from edgedistill.documents.specs import CHANNEL_MULTIPLE


def scaled_channels(channels: int, width: float, multiple: int = CHANNEL_MULTIPLE) -> int:
    """`channels * width` as a multiple of `multiple`, at least one, never more than 10% below: the rule of timm's
    `make_divisible`, without importing it."""
    wanted = channels * width
    rounded = max(multiple, int(wanted + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * wanted else rounded


def scaled_blocks(blocks: int, depth: float) -> int:
    """`blocks * depth` rounded half up, at least one."""
    return max(1, math.floor(blocks * depth + 0.5))
