"""A residual net of basic blocks (He et al. 2016), built on timm's.

The stem is one 3x3 convolution, and the first stage halves with a strided block: the 7x7 convolution and the max pooling of
the original serve 224 px only, and pooling is one operator more to schedule for an edge runtime.
"""

from __future__ import annotations

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan


def plan(spec: StudentSpec) -> StudentPlan:
    """ResNet-18 at width 1 and depth 1; depth 2 has ResNet-34's number of layers, evenly spread."""
    return staged_plan(spec, stem=64, channels=(64, 128, 256, 512), blocks=(2, 2, 2, 2))


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.models.resnet import BasicBlock, downsample_conv

    from edgedistill.networks.families.stages import chained

    def block(place: Place) -> Network:
        changes = place.stride != 1 or place.inputs != place.outputs
        shortcut = downsample_conv(place.inputs, place.outputs, 1, stride=place.stride) if changes else None
        return BasicBlock(place.inputs, place.outputs, stride=place.stride, downsample=shortcut)

    return chained(plan, block, classes)


FAMILY = Family(
    name="resnet",
    title="Residual net of basic blocks",
    widths=(0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5),
    depths=(0.5, 1.0, 1.5, 2.0),
    make_plan=plan,
    assemble=assemble,
    learning_rate=0.006,
)
