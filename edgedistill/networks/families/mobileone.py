"""A MobileOne-like family (Vasu et al. 2023, arXiv:2206.04040) on timm's blocks: branches in training, one convolution a
block at inference, no residual additions left to run.

One over-parameterised branch a block, as in MobileOne-S1 to S4: more branches slow down training by as many times, and
training time is what a search is short of.
"""

from __future__ import annotations

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, StudentPlan, staged_plan


def plan(spec: StudentSpec) -> StudentPlan:
    """MobileOne's stages with all width factors 1 at width 1. A block is a 3x3 depthwise and a 1x1 convolution."""
    return staged_plan(spec, stem=64, channels=(64, 128, 256, 512), blocks=(2, 8, 10, 1), kernels=(3, 3, 3, 3))


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`; with `merged` each block is the convolution that it becomes."""
    from torch import nn

    from edgedistill.networks.families.stages import classifier

    layers = [_block(3, plan.stem_channels, 3, plan.stem_stride, False, merged)]
    for place in plan.places():
        layers.append(_block(place.inputs, place.inputs, place.kernel, place.stride, True, merged))
        layers.append(_block(place.inputs, place.outputs, 1, 1, False, merged))
    return nn.Sequential(*layers, *classifier(plan, classes))


def _block(inputs: int, outputs: int, kernel: int, stride: int, depthwise: bool, merged: bool) -> Network:
    from timm.models.byobnet import MobileOneBlock
    from torch import nn

    if merged:
        # Not MobileOneBlock(inference_mode=True): timm 1.0.31 leaves the padding out there, so maps shrink.
        groups = inputs if depthwise else 1
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        return nn.Sequential(convolution, nn.ReLU(inplace=True))
    group_size = 1 if depthwise else 0
    block: Network = MobileOneBlock(inputs, outputs, kernel, stride, group_size=group_size, num_conv_branches=1)
    return block


FAMILY = Family(
    name="mobileone",
    title="MobileOne-like, branches merged at export",
    widths=(0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5),
    depths=(0.25, 0.5, 0.75, 1.0),
    make_plan=plan,
    assemble=assemble,
    kernels=(3, 5, 7),
    learning_rate=0.02,
)
