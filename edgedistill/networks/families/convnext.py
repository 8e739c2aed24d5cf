"""A ConvNeXt-like family (Liu et al. 2022, arXiv:2201.03545) on timm's blocks: 7x7 depthwise convolutions before an inverted
bottleneck, with batch norms for the layer norms, so that all of them fold into convolutions."""

from __future__ import annotations

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan


def plan(spec: StudentSpec) -> StudentPlan:
    """ConvNeXt-Atto at width 1 and depth 1, with one 3x3 convolution as stem for its 4x4 patches."""
    return staged_plan(
        spec,
        stem=40,
        channels=(40, 80, 160, 320),
        blocks=(2, 2, 6, 2),
        kernels=(7, 7, 7, 7),
        expansions=(4, 4, 4, 4),
    )


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from timm.models.convnext import ConvNeXtBlock
    from torch import nn

    from edgedistill.networks.families.stages import classifier, downsampled

    def block(place: Place) -> nn.Module:
        return ConvNeXtBlock(
            place.outputs,
            kernel_size=place.kernel,
            mlp_ratio=place.ratio(place.outputs),
            conv_mlp=True,
            # Layer scales that begin near nothing would stay there in a short training.
            ls_init_value=None,
            norm_layer=nn.BatchNorm2d,
        )

    def resize(place: Place) -> nn.Module:
        return ConvNormAct(place.inputs, place.outputs, 3, stride=place.stride, apply_act=False)

    stem = ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride, apply_act=False)
    return nn.Sequential(stem, *downsampled(plan, resize, block), *classifier(plan, classes))


FAMILY = Family(
    name="convnext",
    title="ConvNeXt-like with batch norms",
    widths=(0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
    depths=(0.5, 1.0, 1.5),
    make_plan=plan,
    assemble=assemble,
    kernels=(3, 5, 7, 9),
    expansions=(2.0, 3.0, 4.0),
)
