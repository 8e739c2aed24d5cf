"""A small vision transformer with early convolutions (Dosovitskiy et al. 2021, arXiv:2010.11929; Xiao et al. 2021,
arXiv:2106.14881): a pyramid of strided convolutions down to about 4x4 tokens, or 7x7 at 224 px, then timm's blocks.

Patches cut by one large convolution would leave a 32 px image with as little as a ViT/16 has of 224 px: four tokens.
"""

from __future__ import annotations

import math

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Stage, StudentPlan
from edgedistill.networks.families.strides import strides
from edgedistill.networks.scaling import scaled_blocks, scaled_channels

CHANNELS = 192
PYRAMID = (8, 8, 4, 2)
"""The stem's and the next stages' channels are the transformer's over these."""
HEAD_CHANNELS = 32


def plan(spec: StudentSpec) -> StudentPlan:
    """DeiT-Tiny's transformer at width 1 and depth 1. Widths go in whole heads of 32 channels."""
    step = math.lcm(HEAD_CHANNELS, spec.channel_multiple)
    channels = step * max(1, round(CHANNELS * spec.width / step))
    stem_stride, *stage_strides = strides(spec.resolution, 1 + len(PYRAMID))
    pyramid = [scaled_channels(channels, 1 / share, spec.channel_multiple) for share in PYRAMID]
    stages = [Stage(count, 1, stride) for count, stride in zip(pyramid[1:], stage_strides, strict=False)]
    last = Stage(channels, scaled_blocks(12, spec.depth), stage_strides[-1], expansion=spec.expansion or 4)
    return StudentPlan(
        spec.resolution, pyramid[0], stem_stride, (*stages, last), channel_multiple=spec.channel_multiple
    )


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from torch import nn

    from edgedistill.networks.families.stages import classifier
    from edgedistill.networks.families.tokens import Tokens

    *pyramid, first = (place for place in plan.places() if place.index == 0)
    layers: list[nn.Module] = [ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride)]
    layers += [ConvNormAct(place.inputs, place.outputs, 3, stride=place.stride) for place in pyramid]
    layers.append(ConvNormAct(first.inputs, first.outputs, 3, stride=first.stride, apply_act=False))
    heads, blocks = first.outputs // HEAD_CHANNELS, plan.stages[-1].blocks
    layers.append(Tokens(first.outputs, blocks, heads, first.ratio(first.outputs), plan.last_side))
    return nn.Sequential(*layers, *classifier(plan, classes))


FAMILY = Family(
    name="vit",
    title="Small vision transformer with early convolutions",
    widths=(0.34, 0.5, 0.67, 1.0, 1.34),
    depths=(0.17, 0.34, 0.5, 1.0),
    make_plan=plan,
    assemble=assemble,
    expansions=(2.0, 3.0, 4.0),
    learning_rate=0.001,
)
