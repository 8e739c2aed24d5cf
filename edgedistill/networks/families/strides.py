"""Where a network halves its feature map, from the input's resolution.

Networks drawn for 224 px halve five times. At 32 px that leaves a 1x1 map: mobilenetv4_conv_small spends its whole second
half on a single pixel and learns badly. Here the number of halvings follows the input, so that the last map is about 4x4
below 128 px, and 1/32 of the input from there on (7x7 at 224).

The halvings given up are the first ones: every later stage then works on the maps it was drawn for (8x8 and 4x4 at 32 px
beside 14x14 and 7x7 at 224), and only the thin stem and first stages run at a larger share of the input.
"""

from __future__ import annotations

import math
from itertools import accumulate

LAST_MAP = 4
SMALLEST_MAP = 3
"""A map of less is padding for the most part: of the nine places of a 3x3 kernel on 2x2, five lie outside."""
MAX_HALVINGS = 5


def halvings(resolution: int) -> int:
    """How often the map halves: the power of two nearest to `resolution / 4`, between 1 and 5 (8 px: 1, 16: 2, 28 and 32: 3,
    64: 4, 128 and more: 5). The last map is at least 3x3."""
    return min(MAX_HALVINGS, max(1, round(math.log2(resolution / LAST_MAP))))


def strides(resolution: int, places: int = MAX_HALVINGS) -> tuple[int, ...]:
    """Stride (1 or 2) of each of `places` successive places, first ones 1. Raises ValueError where there are fewer places
    than halvings."""
    count = halvings(resolution)
    if count > places:
        raise ValueError(f"{resolution} px needs {count} halvings, the network has {places} places for them")
    return (1,) * (places - count) + (2,) * count


def map_sides(resolution: int, steps: tuple[int, ...]) -> tuple[int, ...]:
    """Side of the feature map after each stride, for convolutions padded to half their kernel (rounds up)."""
    _, *sides = accumulate(steps, lambda side, step: -(-side // step), initial=resolution)
    return tuple(sides)
