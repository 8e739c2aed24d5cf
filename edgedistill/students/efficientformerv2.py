"""An EfficientFormerV2-like family (Li et al. 2023, arXiv:2212.08059) on timm's blocks: convolutional feed-forward blocks
with a depthwise convolution inside, and attention in the second half of the last stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.students.family import Family, Plan, staged_plan

if TYPE_CHECKING:
    from torch import nn

STEM = 32
CHANNELS = (32, 48, 96, 176)
BLOCKS = (2, 2, 6, 4)
EXPANSION = 4


def plan(width: float, depth: float, resolution: int) -> Plan:
    """EfficientFormerV2-S0 at width 1 and depth 1, with one convolution as stem and attention in the last stage alone: at
    the sides of small inputs the one before has maps on which it would cost more than all else."""
    return staged_plan(STEM, CHANNELS, BLOCKS, (), width, depth, resolution)


def assemble(plan: Plan, classes: int, merged: bool) -> nn.Module:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from timm.models.efficientformer_v2 import EfficientFormerV2Block
    from torch import nn

    layers: list[nn.Module] = [ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride, act_layer=nn.GELU)]
    channels = plan.stem_channels
    for number, stage in enumerate(plan.stages):
        if stage.stride == 2 or channels != stage.channels:
            layers.append(ConvNormAct(channels, stage.channels, 3, stride=stage.stride, apply_act=False))
        channels = stage.channels
        last = number == len(plan.stages) - 1
        for index in range(stage.blocks):
            attends = last and index >= stage.blocks // 2
            # Layer scales that begin near nothing would stay there in a short training.
            block = EfficientFormerV2Block(
                channels,
                EXPANSION,
                resolution=plan.last_side,
                use_attn=attends,
                layer_scale_init_value=None,
            )
            layers.append(block)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


FAMILY = Family(
    name="efficientformerv2",
    title="EfficientFormerV2-like, attention in the last stage",
    widths=(0.25, 0.35, 0.5, 0.75, 1.0),
    depths=(0.5, 1.0, 1.5),
    plan=plan,
    assemble=assemble,
)
