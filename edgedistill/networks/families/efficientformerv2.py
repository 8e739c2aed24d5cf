"""An EfficientFormerV2-like family (Li et al. 2023, arXiv:2212.08059) on timm's blocks: convolutional feed-forward blocks
with a depthwise convolution inside, and attention in the second half of the last stage."""

from __future__ import annotations

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan


def plan(spec: StudentSpec) -> StudentPlan:
    """EfficientFormerV2-S0 at width 1 and depth 1, with one convolution as stem and attention in the last stage alone: at
    the sides of small inputs the one before has maps on which it would cost more than all else."""
    return staged_plan(spec, stem=32, channels=(32, 48, 96, 176), blocks=(2, 2, 6, 4), expansions=(4, 4, 4, 4))


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.layers.conv_bn_act import ConvNormAct
    from timm.models.efficientformer_v2 import EfficientFormerV2Block
    from torch import nn

    from edgedistill.networks.families.stages import classifier, downsampled

    last = len(plan.stages) - 1

    def block(place: Place) -> nn.Module:
        return EfficientFormerV2Block(
            place.outputs,
            place.ratio(place.outputs),
            resolution=plan.last_side,
            use_attn=place.number == last and place.index >= plan.stages[last].blocks // 2,
            # Layer scales that begin near nothing would stay there in a short training.
            layer_scale_init_value=None,
        )

    def resize(place: Place) -> nn.Module:
        return ConvNormAct(place.inputs, place.outputs, 3, stride=place.stride, apply_act=False)

    stem = ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride, act_layer=nn.GELU)
    return nn.Sequential(stem, *downsampled(plan, resize, block), *classifier(plan, classes))


FAMILY = Family(
    name="efficientformerv2",
    title="EfficientFormerV2-like, attention in the last stage",
    widths=(0.25, 0.35, 0.5, 0.75, 1.0),
    depths=(0.5, 1.0, 1.5),
    make_plan=plan,
    assemble=assemble,
    expansions=(2.0, 3.0, 4.0),
)
