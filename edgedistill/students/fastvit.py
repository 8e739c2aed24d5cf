"""A FastViT-like family (Vasu et al. 2023, arXiv:2303.14189) on timm's blocks: RepMixer in all four stages, whose branches
and skip become one depthwise convolution, and convolutional feed-forward parts.

No stage has attention: the small FastViTs (T8 to S12) have none either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedistill.students.family import Family, Plan, Stage, scaled_blocks, scaled_channels
from edgedistill.students.strides import strides

if TYPE_CHECKING:
    from torch import nn

STEM = 48
BLOCKS = (2, 2, 4, 2)
EXPANSION = 3
KERNEL = 3
PATCH = 7


def plan(width: float, depth: float, resolution: int) -> Plan:
    """FastViT-T8 at width 1 and depth 1, its stem of three convolutions as one. Channels double from stage to stage: the
    strided convolution between two stages has as many groups as channels come in."""
    first = scaled_channels(STEM, width)
    stem_stride, *stage_strides = strides(resolution, 1 + len(BLOCKS))
    stages = tuple(
        Stage(first * 2**number, scaled_blocks(blocks, depth), stride)
        for number, (blocks, stride) in enumerate(zip(BLOCKS, stage_strides, strict=True))
    )
    return Plan(first, stem_stride, stages, resolution=resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`; with `merged` branches and skips are the convolutions that they become."""
    from timm.models.fastvit import MobileOneBlock, PatchEmbed, RepMixerBlock
    from timm.utils import reparameterize_model
    from torch import nn

    layers: list[nn.Module] = [MobileOneBlock(3, plan.stem_channels, 3, plan.stem_stride)]
    channels = plan.stem_channels
    for stage in plan.stages:
        if stage.stride == 2:
            layers.append(PatchEmbed(PATCH, stage.stride, channels, stage.channels))
        elif channels != stage.channels:
            layers.append(MobileOneBlock(channels, stage.channels, 1))
        channels = stage.channels
        # Training starts from random weights and is short: layer scales that begin near nothing would stay there.
        plain: Any = {"layer_scale_init_value": None}
        layers += [RepMixerBlock(channels, KERNEL, EXPANSION, **plain) for _ in range(stage.blocks)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return reparameterize_model(network.eval(), inplace=True) if merged else network


FAMILY = Family(
    name="fastvit",
    title="FastViT-like, branches merged at export",
    widths=(0.17, 0.25, 0.34, 0.5, 0.75, 1.0),
    depths=(0.5, 1.0, 1.5, 2.0),
    plan=plan,
    assemble=assemble,
)
