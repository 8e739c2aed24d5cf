"""A MobileNetV3-like family (Howard et al. 2019, arXiv:1905.02244) on timm's blocks: inverted bottlenecks, from the second
stage on with 5x5 depthwise kernels, squeeze-and-excitation and hard-swish.

Four stages where MobileNetV3-Large has six: its first is one thin block, and its fourth and fifth work on maps of one size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan

WEIGHED = (False, True, True, True)
HARD_SWISH = (False, False, True, True)


def plan(spec: StudentSpec) -> StudentPlan:
    """About MobileNetV3-Large at width 1 and depth 1."""
    return staged_plan(
        spec,
        stem=16,
        channels=(24, 40, 96, 160),
        blocks=(3, 3, 6, 3),
        head=(960, 1280),
        kernels=(3, 5, 3, 5),
        expansions=(3, 3, 4, 6),
    )


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
    from torch import nn

    from edgedistill.networks.families.stages import chained

    weigh: Any = partial(SqueezeExcite, rd_ratio=0.25, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU)

    def block(place: Place) -> Network:
        return InvertedResidual(
            place.inputs,
            place.outputs,
            place.kernel,
            stride=place.stride,
            exp_ratio=place.ratio(place.inputs),
            act_layer=nn.Hardswish if HARD_SWISH[place.number] else nn.ReLU,
            se_layer=weigh if WEIGHED[place.number] else None,
        )

    return chained(plan, block, classes, nn.Hardswish)


FAMILY = Family(
    name="mobilenetv3",
    title="MobileNetV3-like, channels weighed, hard-swish",
    widths=(0.25, 0.35, 0.5, 0.75, 1.0, 1.4),
    depths=(0.34, 0.5, 1.0, 1.5),
    make_plan=plan,
    assemble=assemble,
    kernels=(3, 5, 7),
    expansions=(2.0, 3.0, 4.0, 6.0),
)
