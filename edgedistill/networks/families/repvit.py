"""A RepViT-like family (Wang et al. 2023, arXiv:2307.09283) on timm's blocks: a depthwise token mixer whose branches merge,
then a mixer of channels, as transformers part the two; every other block weighs its channels."""

from __future__ import annotations

from typing import Any

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan

KERNEL = 3


def plan(spec: StudentSpec) -> StudentPlan:
    """RepViT-M0.9 at width 1 and depth 1, its stem of two convolutions as one."""
    return staged_plan(spec, stem=48, channels=(48, 96, 192, 384), blocks=(2, 2, 14, 2), expansions=(2, 2, 2, 2))


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`; with `merged` the token mixers' branches are the convolution that they become."""
    from timm.models.repvit import ConvNorm, RepViTBlock, RepVitDownsample, RepVitMlp
    from torch import nn

    from edgedistill.networks.families.stages import classifier, downsampled

    def widen(block: nn.Module, mixer: str, place: Place, channels: int) -> None:
        """timm's blocks widen by whole factors; another width replaces their mixer of channels."""
        if (hidden := place.hidden(channels)) != channels * _whole(place.expansion):
            setattr(block, mixer, RepVitMlp(channels, hidden, nn.GELU))

    def block(place: Place) -> nn.Module:
        weighed = place.index % 2 == 0
        made = RepViTBlock(place.outputs, _whole(place.expansion), KERNEL, weighed, nn.GELU)
        widen(made, "channel_mixer", place, place.outputs)
        return made

    def resize(place: Place) -> nn.Module:
        if place.stride == 1:
            return ConvNorm(place.inputs, place.outputs, 1, 1)
        made = RepVitDownsample(place.inputs, _whole(place.expansion), place.outputs, KERNEL, nn.GELU)
        widen(made.pre_block, "channel_mixer", place, place.inputs)
        widen(made, "ffn", place, place.outputs)
        return made

    stem = (ConvNorm(3, plan.stem_channels, 3, plan.stem_stride, 1), nn.GELU())
    network = nn.Sequential(*stem, *downsampled(plan, resize, block), *classifier(plan, classes))
    if merged:
        _merge(network)
    return network


def _merge(parent: Network) -> None:
    """Put a fresh convolution in the place of each that timm's `reparameterize_model` merges into one: here only its shape
    counts, and merging weights takes much longer."""
    from timm.models.repvit import ConvNorm, RepVggDw
    from torch import nn

    for name, child in parent.named_children():
        branch = child.conv if isinstance(child, RepVggDw) else child
        if isinstance(branch, ConvNorm):
            c: Any = branch.c
            merged = nn.Conv2d(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding, groups=c.groups)
            setattr(parent, name, merged)
        else:
            _merge(child)


def _whole(expansion: float) -> int:
    return max(1, round(expansion))


FAMILY = Family(
    name="repvit",
    title="RepViT-like, branches merged at export",
    widths=(0.17, 0.25, 0.34, 0.5, 0.75, 1.0),
    depths=(0.15, 0.3, 0.6, 1.0),
    make_plan=plan,
    assemble=assemble,
    expansions=(1.5, 2.0, 3.0),
    learning_rate=0.003,
)
