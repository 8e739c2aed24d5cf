"""A RepVGG-like family (Ding et al. 2021, arXiv:2101.03697) on timm's blocks: a plain chain of 3x3 convolutions once the
branches of training are merged, the form that caches and vector units like best."""

from __future__ import annotations

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, StudentPlan, staged_plan


def plan(spec: StudentSpec) -> StudentPlan:
    """RepVGG-A0's stages at width 1 and depth 1, the last with 384 channels for its 1280: at small resolutions that layer
    would be most of the network."""
    return staged_plan(spec, stem=48, channels=(48, 96, 192, 384), blocks=(2, 4, 14, 1))


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`; with `merged` each block is the convolution that it becomes."""
    from torch import nn

    from edgedistill.networks.families.stages import classifier

    stem = _block(3, plan.stem_channels, plan.stem_stride, merged)
    blocks = (_block(place.inputs, place.outputs, place.stride, merged) for place in plan.places())
    return nn.Sequential(stem, *blocks, *classifier(plan, classes))


def _block(inputs: int, outputs: int, stride: int, merged: bool) -> Network:
    from timm.models.byobnet import RepVggBlock
    from torch import nn

    if merged:
        # Not RepVggBlock(inference_mode=True): timm 1.0.31 leaves the padding out there, so maps shrink.
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU(inplace=True))
    block: Network = RepVggBlock(inputs, outputs, 3, stride)
    return block


FAMILY = Family(
    name="repvgg",
    title="RepVGG-like, branches merged at export",
    widths=(0.17, 0.25, 0.34, 0.5, 0.75, 1.0),
    depths=(0.25, 0.5, 1.0),
    make_plan=plan,
    assemble=assemble,
)
