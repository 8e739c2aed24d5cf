"""A residual net of basic blocks (He et al. 2016), built on timm's.

The stem is one 3x3 convolution, and the first stage halves with a strided block: the 7x7 convolution and the max pooling of
the original serve 224 px only, and pooling is one operator more to schedule for an edge runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.students.family import Family, Plan, staged_plan

if TYPE_CHECKING:
    from torch import nn

STEM = 64
CHANNELS = (64, 128, 256, 512)
BLOCKS = (2, 2, 2, 2)


def plan(width: float, depth: float, resolution: int) -> Plan:
    """ResNet-18 at width 1 and depth 1; depth 2 has ResNet-34's number of layers, evenly spread."""
    return staged_plan(STEM, CHANNELS, BLOCKS, (), width, depth, resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from timm.models.resnet import BasicBlock, downsample_conv
    from torch import nn

    layers: list[nn.Module] = [ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride)]
    channels = plan.stem_channels
    for stage in plan.stages:
        for index in range(stage.blocks):
            stride = stage.stride if index == 0 else 1
            changes = stride != 1 or channels != stage.channels
            shortcut = downsample_conv(channels, stage.channels, 1, stride=stride) if changes else None
            layers.append(BasicBlock(channels, stage.channels, stride=stride, downsample=shortcut))
            channels = stage.channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


FAMILY = Family(
    name="resnet",
    title="Residual net of basic blocks",
    widths=(0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5),
    depths=(0.5, 1.0, 1.5, 2.0),
    plan=plan,
    assemble=assemble,
)
