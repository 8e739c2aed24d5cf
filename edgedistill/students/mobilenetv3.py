"""A MobileNetV3-like family (Howard et al. 2019, arXiv:1905.02244) on timm's blocks: inverted bottlenecks, from the second
stage on with 5x5 depthwise kernels, squeeze-and-excitation and hard-swish.

Four stages where MobileNetV3-Large has six: its first is one thin block, and its fourth and fifth work on maps of one size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from edgedistill.students.family import Family, Plan, staged_plan

if TYPE_CHECKING:
    from torch import nn

STEM = 16
CHANNELS = (24, 40, 96, 160)
BLOCKS = (3, 3, 6, 3)
HEAD = (960, 1280)


@dataclass(frozen=True)
class Kind:
    """What the blocks of a stage have in common: depthwise kernel, expansion, whether channels are weighed, whether the
    activation is hard-swish (else ReLU)."""

    kernel: int
    expansion: float
    weighed: bool
    hard_swish: bool


KINDS = (Kind(3, 3, False, False), Kind(5, 3, True, False), Kind(3, 4, True, True), Kind(5, 6, True, True))


def plan(width: float, depth: float, resolution: int) -> Plan:
    """About MobileNetV3-Large at width 1 and depth 1."""
    return staged_plan(STEM, CHANNELS, BLOCKS, HEAD, width, depth, resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
    from torch import nn

    weigh: Any = partial(SqueezeExcite, rd_ratio=0.25, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU)
    first = ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride, act_layer=nn.Hardswish)
    layers: list[nn.Module] = [first]
    channels = plan.stem_channels
    for stage, kind in zip(plan.stages, KINDS, strict=True):
        for index in range(stage.blocks):
            block = InvertedResidual(
                channels,
                stage.channels,
                kind.kernel,
                stride=stage.stride if index == 0 else 1,
                exp_ratio=kind.expansion,
                act_layer=nn.Hardswish if kind.hard_swish else nn.ReLU,
                se_layer=weigh if kind.weighed else None,
            )
            layers.append(block)
            channels = stage.channels
    inner, outer = plan.head_channels
    activation: Any = {"act_layer": nn.Hardswish}
    layers += [ConvNormAct(channels, inner, 1, **activation), nn.AdaptiveAvgPool2d(1)]
    layers += [ConvNormAct(inner, outer, 1, **activation), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(outer, classes))


FAMILY = Family(
    name="mobilenetv3",
    title="MobileNetV3-like, channels weighed, hard-swish",
    widths=(0.25, 0.35, 0.5, 0.75, 1.0, 1.4),
    depths=(0.34, 0.5, 1.0, 1.5),
    plan=plan,
    assemble=assemble,
)
