"""An EfficientNet-Lite-like family (Tan and Le 2019, arXiv:1905.11946; Lite: no squeeze-and-excitation, ReLU6) on timm's
inverted bottlenecks: nothing in it that an integer kernel has to look up.

Four stages where EfficientNet-Lite0 has seven: neighbours that work on maps of one size are one stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.students.family import Family, Plan, staged_plan

if TYPE_CHECKING:
    from torch import nn

STEM = 32
CHANNELS = (24, 40, 96, 192)
BLOCKS = (2, 2, 6, 5)
KERNELS = (3, 5, 5, 5)
EXPANSIONS = (3, 6, 6, 6)
HEAD = (1280,)


def plan(width: float, depth: float, resolution: int) -> Plan:
    """About EfficientNet-Lite0 at width 1 and depth 1."""
    return staged_plan(STEM, CHANNELS, BLOCKS, HEAD, width, depth, resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from timm.models._efficientnet_blocks import InvertedResidual
    from torch import nn

    layers: list[nn.Module] = [ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride, act_layer=nn.ReLU6)]
    channels = plan.stem_channels
    for stage, kernel, expansion in zip(plan.stages, KERNELS, EXPANSIONS, strict=True):
        for index in range(stage.blocks):
            stride = stage.stride if index == 0 else 1
            block = InvertedResidual(
                channels, stage.channels, kernel, stride=stride, exp_ratio=expansion, act_layer=nn.ReLU6
            )
            layers.append(block)
            channels = stage.channels
    (outer,) = plan.head_channels
    layers += [ConvNormAct(channels, outer, 1, act_layer=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(outer, classes))


FAMILY = Family(
    name="efficientnet_lite",
    title="EfficientNet-Lite-like",
    widths=(0.25, 0.35, 0.5, 0.75, 1.0, 1.4),
    depths=(0.34, 0.5, 1.0, 1.5),
    plan=plan,
    assemble=assemble,
)
