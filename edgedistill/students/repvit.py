"""A RepViT-like family (Wang et al. 2023, arXiv:2307.09283) on timm's blocks: a depthwise token mixer whose branches merge,
then a mixer of channels, as transformers part the two; every other block weighs its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.students.family import Family, Plan, staged_plan

if TYPE_CHECKING:
    from torch import nn

STEM = 48
CHANNELS = (48, 96, 192, 384)
BLOCKS = (2, 2, 14, 2)
EXPANSION = 2
KERNEL = 3


def plan(width: float, depth: float, resolution: int) -> Plan:
    """RepViT-M0.9 at width 1 and depth 1, its stem of two convolutions as one."""
    return staged_plan(STEM, CHANNELS, BLOCKS, (), width, depth, resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`; with `merged` the token mixers' branches are the convolution that they become."""
    from timm.models.repvit import ConvNorm, RepViTBlock, RepVitDownsample
    from timm.utils import reparameterize_model
    from torch import nn

    layers: list[nn.Module] = [ConvNorm(3, plan.stem_channels, 3, plan.stem_stride, 1), nn.GELU()]
    channels = plan.stem_channels
    for stage in plan.stages:
        if stage.stride == 2:
            layers.append(RepVitDownsample(channels, EXPANSION, stage.channels, KERNEL, nn.GELU))
        elif channels != stage.channels:
            layers.append(ConvNorm(channels, stage.channels, 1, 1))
        channels = stage.channels
        for index in range(stage.blocks):
            weighed = index % 2 == 0
            layers.append(RepViTBlock(channels, EXPANSION, KERNEL, weighed, nn.GELU))
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return reparameterize_model(network.eval(), inplace=True) if merged else network


FAMILY = Family(
    name="repvit",
    title="RepViT-like, branches merged at export",
    widths=(0.17, 0.25, 0.34, 0.5, 0.75, 1.0),
    depths=(0.15, 0.3, 0.6, 1.0),
    plan=plan,
    assemble=assemble,
)
