"""What a family of students is: ranges of width, depth and resolution, and how a choice becomes a network.

A choice first becomes a `Plan`, plain numbers of channels, blocks and strides; two choices with one plan are one network.
Importing a family imports neither torch nor timm: only `build` and `skeleton` do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedistill.students.strides import map_sides, strides

if TYPE_CHECKING:
    from torch import nn

RESOLUTIONS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224)


@dataclass(frozen=True)
class Stage:
    """A run of `blocks` blocks with `channels` channels out; the first has this stride, the others stride 1."""

    channels: int
    blocks: int
    stride: int


@dataclass(frozen=True)
class Plan:
    """A network without its weights or classes: the stem's channels and stride, the stages, and the channels of the head's
    layers before the classifier (families without such layers have none). `resolution` is the input's side."""

    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head_channels: tuple[int, ...] = ()
    resolution: int = 0

    @property
    def last_side(self) -> int:
        """Side of the last feature map."""
        return map_sides(self.resolution, (self.stem_stride, *(stage.stride for stage in self.stages)))[-1]


@dataclass(frozen=True)
class Family:
    """A family of students.

    `widths`, `depths` and `resolutions` are what the space tries by default; any width and depth above zero and any
    resolution from 8 px builds. `plan(width, depth, resolution)` is pure arithmetic. `assemble(plan, classes, merged)`
    makes the network; with `merged`, already with the branches of training merged as `deploy` merges them.
    """

    name: str
    title: str
    widths: tuple[float, ...]
    depths: tuple[float, ...]
    plan: Callable[[float, float, int], Plan]
    assemble: Callable[[Plan, int, bool], nn.Module]
    resolutions: tuple[int, ...] = RESOLUTIONS

    def build(self, width: float, depth: float, resolution: int, classes: int) -> nn.Module:
        """A trainable network with fresh weights: float [N, 3, R, R], already normalised, to logits [N, classes]. Weights
        come from torch's global generator, so seed it first where it matters."""
        from edgedistill.students.initialise import initialise

        network = self.assemble(self.plan(width, depth, resolution), classes, False)
        initialise(network)
        return network

    def skeleton(self, plan: Plan, classes: int) -> nn.Module:
        """The merged network on the meta device, in eval mode: shapes without weights."""
        import torch

        with torch.device("meta"):
            return self.assemble(plan, classes, True).eval()


def scaled_channels(channels: int, width: float) -> int:
    """`channels * width` as a multiple of 8, at least 8, never more than 10% below: the rule of timm's `make_divisible`,
    without importing it."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def scaled_blocks(blocks: int, depth: float) -> int:
    """`blocks * depth` rounded half up, at least one."""
    return max(1, math.floor(blocks * depth + 0.5))


def staged_plan(
    stem: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    head: Sequence[int],
    width: float,
    depth: float,
    resolution: int,
) -> Plan:
    """The plan of a stem and stages, each a place where the map may halve, scaled by `width` and `depth`."""
    stem_stride, *stage_strides = strides(resolution, 1 + len(channels))
    return Plan(
        stem_channels=scaled_channels(stem, width),
        stem_stride=stem_stride,
        stages=tuple(
            Stage(scaled_channels(c, width), scaled_blocks(b, depth), s)
            for c, b, s in zip(channels, blocks, stage_strides, strict=True)
        ),
        head_channels=tuple(scaled_channels(c, width) for c in head),
        resolution=resolution,
    )
