"""An EfficientNet-Lite-like family (Tan and Le 2019, arXiv:1905.11946; Lite: no squeeze-and-excitation, ReLU6) on timm's
inverted bottlenecks: nothing in it that an integer kernel has to look up.

Four stages where EfficientNet-Lite0 has seven: neighbours that work on maps of one size are one stage.
"""

from __future__ import annotations

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan


def plan(spec: StudentSpec) -> StudentPlan:
    """About EfficientNet-Lite0 at width 1 and depth 1."""
    return staged_plan(
        spec,
        stem=32,
        channels=(24, 40, 96, 192),
        blocks=(2, 2, 6, 5),
        head=(1280,),
        kernels=(3, 5, 5, 5),
        expansions=(3, 6, 6, 6),
    )


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.models._efficientnet_blocks import InvertedResidual
    from torch import nn

    from edgedistill.networks.families.stages import chained

    def block(place: Place) -> Network:
        return InvertedResidual(
            place.inputs,
            place.outputs,
            place.kernel,
            stride=place.stride,
            exp_ratio=place.ratio(place.inputs),
            act_layer=nn.ReLU6,
        )

    return chained(plan, block, classes, nn.ReLU6)


FAMILY = Family(
    name="efficientnet_lite",
    title="EfficientNet-Lite-like",
    widths=(0.25, 0.35, 0.5, 0.75, 1.0, 1.4),
    depths=(0.34, 0.5, 1.0, 1.5),
    make_plan=plan,
    assemble=assemble,
    kernels=(3, 5, 7),
    expansions=(2.0, 3.0, 4.0, 6.0),
)
