"""A ConvNeXt-like family (Liu et al. 2022, arXiv:2201.03545) on timm's blocks: 7x7 depthwise convolutions before an inverted
bottleneck, with batch norms for the layer norms, so that all of them fold into convolutions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgedistill.students.family import Family, Plan, staged_plan

if TYPE_CHECKING:
    from torch import nn

STEM = 40
CHANNELS = (40, 80, 160, 320)
BLOCKS = (2, 2, 6, 2)
KERNEL = 7
EXPANSION = 4


def plan(width: float, depth: float, resolution: int) -> Plan:
    """ConvNeXt-Atto at width 1 and depth 1, with one 3x3 convolution as stem for its 4x4 patches."""
    return staged_plan(STEM, CHANNELS, BLOCKS, (), width, depth, resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from timm.models.convnext import ConvNeXtBlock
    from torch import nn

    block = partial(
        ConvNeXtBlock,
        kernel_size=KERNEL,
        mlp_ratio=EXPANSION,
        conv_mlp=True,
        # Layer scales that begin near nothing would stay there in a short training.
        ls_init_value=None,
        norm_layer=nn.BatchNorm2d,
    )
    layers: list[nn.Module] = [ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride, apply_act=False)]
    channels = plan.stem_channels
    for stage in plan.stages:
        if stage.stride == 2 or channels != stage.channels:
            layers.append(ConvNormAct(channels, stage.channels, 3, stride=stage.stride, apply_act=False))
        channels = stage.channels
        layers += [block(channels) for _ in range(stage.blocks)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


FAMILY = Family(
    name="convnext",
    title="ConvNeXt-like with batch norms",
    widths=(0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
    depths=(0.5, 1.0, 1.5),
    plan=plan,
    assemble=assemble,
)
