"""What families have in common around their blocks."""

from __future__ import annotations

from collections.abc import Callable

from timm.layers.conv_bn_act import ConvNormAct
from torch import nn

from edgedistill.networks.families.family import Place, StudentPlan


def chained(
    plan: StudentPlan, block: Callable[[Place], nn.Module], classes: int, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """A 3x3 convolution as stem, the plan's blocks in turn, and the classifier; `activation` is that of stem and head."""
    stem = ConvNormAct(3, plan.stem_channels, 3, stride=plan.stem_stride, act_layer=activation)
    return nn.Sequential(stem, *map(block, plan.places()), *classifier(plan, classes, activation))


def downsampled(
    plan: StudentPlan, resize: Callable[[Place], nn.Module], block: Callable[[Place], nn.Module]
) -> list[nn.Module]:
    """Stages whose blocks keep channels and map (`place.outputs` both ways), each behind a `resize` of its own where its
    channels or stride differ from what comes in."""
    layers: list[nn.Module] = []
    for place in plan.places():
        if place.stride == 2 or place.inputs != place.outputs:
            layers.append(resize(place))
        layers.append(block(place))
    return layers


def classifier(plan: StudentPlan, classes: int, activation: type[nn.Module] = nn.ReLU) -> list[nn.Module]:
    """Feature map to logits [N, classes]: the head's first layer on the map, its others on the mean of the map."""
    channels = plan.stages[-1].channels
    on_map, on_mean = plan.head_channels[:1], plan.head_channels[1:]
    layers: list[nn.Module] = []
    for widths, pool in ((on_map, nn.AdaptiveAvgPool2d(1)), (on_mean, nn.Flatten())):
        for width in widths:
            layers.append(ConvNormAct(channels, width, 1, act_layer=activation))
            channels = width
        layers.append(pool)
    return [*layers, nn.Linear(channels, classes)]
