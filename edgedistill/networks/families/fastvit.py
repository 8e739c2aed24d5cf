"""A FastViT-like family (Vasu et al. 2023, arXiv:2303.14189) on timm's blocks: RepMixer in all four stages, whose branches
and skip become one depthwise convolution, and convolutional feed-forward parts.

No stage has attention: the small FastViTs (T8 to S12) have none either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan

PATCH = 7


def plan(spec: StudentSpec) -> StudentPlan:
    """FastViT-T8 at width 1 and depth 1, its stem of three convolutions as one. Channels double from stage to stage: the
    strided convolution between two stages has as many groups as channels come in."""
    scaled = staged_plan(
        spec, stem=48, channels=(48,) * 4, blocks=(2, 2, 4, 2), kernels=(3, 3, 3, 3), expansions=(3, 3, 3, 3)
    )
    stages = (replace(s, channels=s.channels * 2**number) for number, s in enumerate(scaled.stages))
    return replace(scaled, stages=tuple(stages))


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`; with `merged` branches and skips are the convolutions that they become."""
    from timm.models.fastvit import MobileOneBlock, PatchEmbed, RepMixerBlock
    from torch import nn

    from edgedistill.networks.families.stages import classifier, downsampled

    # Training starts from random weights and is short: layer scales that begin near nothing would stay there.
    plain: Any = {"layer_scale_init_value": None, "inference_mode": merged}

    def block(place: Place) -> nn.Module:
        return RepMixerBlock(place.outputs, place.kernel, place.ratio(place.outputs), **plain)

    def resize(place: Place) -> nn.Module:
        if place.stride == 1:
            return MobileOneBlock(place.inputs, place.outputs, 1, inference_mode=merged)
        return PatchEmbed(PATCH, place.stride, place.inputs, place.outputs, inference_mode=merged)

    stem = MobileOneBlock(3, plan.stem_channels, 3, plan.stem_stride, inference_mode=merged)
    return nn.Sequential(stem, *downsampled(plan, resize, block), *classifier(plan, classes))


FAMILY = Family(
    name="fastvit",
    title="FastViT-like, branches merged at export",
    widths=(0.17, 0.34, 0.5, 0.75, 1.0),
    depths=(0.5, 1.0, 1.5, 2.0),
    make_plan=plan,
    assemble=assemble,
    kernels=(3, 5, 7),
    expansions=(2.0, 3.0, 4.0),
)
