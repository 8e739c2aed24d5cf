"""A GhostNetV2-like family (Tang et al. 2022, arXiv:2211.12905) on timm's blocks: half of each layer's channels come from
cheap depthwise convolutions of the other half, and long-range attention of two strips gates the later stages."""

from __future__ import annotations

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan

WEIGHED = (0.0, 0.25, 0.0, 0.25)
MODES = ("original", "attn", "attn", "attn")


def plan(spec: StudentSpec) -> StudentPlan:
    """About GhostNetV2 1.0 at width 1 and depth 1, neighbouring stages that work on maps of one size taken as one."""
    return staged_plan(
        spec,
        stem=16,
        channels=(24, 40, 96, 160),
        blocks=(2, 2, 6, 5),
        head=(960, 1280),
        kernels=(3, 5, 3, 5),
        expansions=(3, 3, 3, 6),
    )


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.models.ghostnet import GhostBottleneck

    from edgedistill.networks.families.stages import chained

    def block(place: Place) -> Network:
        return GhostBottleneck(
            place.inputs,
            place.hidden(place.outputs),
            place.outputs,
            place.kernel,
            stride=place.stride,
            se_ratio=WEIGHED[place.number],
            mode=MODES[place.number],
        )

    return chained(plan, block, classes)


FAMILY = Family(
    name="ghostnetv2",
    title="GhostNetV2-like",
    widths=(0.25, 0.35, 0.5, 0.75, 1.0, 1.3),
    depths=(0.34, 0.5, 1.0),
    make_plan=plan,
    assemble=assemble,
    kernels=(3, 5, 7),
    expansions=(2.0, 3.0, 4.0, 6.0),
)
