"""A small vision transformer with early convolutions (Dosovitskiy et al. 2021, arXiv:2010.11929; Xiao et al. 2021,
arXiv:2106.14881): a pyramid of strided convolutions down to about 4x4 tokens, or 7x7 at 224 px, then timm's blocks.

Patches cut by one large convolution would leave a 32 px image with as little as a ViT/16 has of 224 px: four tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.students.family import Family, Plan, Stage, scaled_blocks, scaled_channels
from edgedistill.students.strides import strides

if TYPE_CHECKING:
    from torch import nn

CHANNELS = 192
PYRAMID = (8, 8, 4, 2)
"""The stem's and the next stages' channels are the transformer's over these."""
BLOCKS = 12
HEAD_CHANNELS = 32
EXPANSION = 4


def plan(width: float, depth: float, resolution: int) -> Plan:
    """DeiT-Tiny's transformer at width 1 and depth 1. Widths go in whole heads of 32 channels."""
    channels = HEAD_CHANNELS * max(1, round(CHANNELS * width / HEAD_CHANNELS))
    stem_stride, *stage_strides = strides(resolution, 1 + len(PYRAMID))
    pyramid = [scaled_channels(channels, 1 / share) for share in PYRAMID]
    stages = [Stage(count, 1, stride) for count, stride in zip(pyramid[1:], stage_strides, strict=False)]
    last = Stage(channels, scaled_blocks(BLOCKS, depth), stage_strides[-1])
    return Plan(pyramid[0], stem_stride, (*stages, last), resolution=resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from torch import nn

    from edgedistill.students.tokens import Tokens

    layers: list[nn.Module] = [ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride)]
    channels = plan.stem_channels
    *pyramid, last = plan.stages
    for stage in pyramid:
        layers.append(ConvNormAct(channels, stage.channels, 3, stride=stage.stride))
        channels = stage.channels
    layers.append(ConvNormAct(channels, last.channels, 3, stride=last.stride, apply_act=False))
    heads = last.channels // HEAD_CHANNELS
    layers.append(Tokens(last.channels, last.blocks, heads, EXPANSION, plan.last_side))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last.channels, classes))


FAMILY = Family(
    name="vit",
    title="Small vision transformer with early convolutions",
    widths=(0.34, 0.5, 0.67, 1.0, 1.34),
    depths=(0.17, 0.34, 0.5, 1.0),
    plan=plan,
    assemble=assemble,
)
