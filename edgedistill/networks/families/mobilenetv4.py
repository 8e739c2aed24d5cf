"""A MobileNetV4-like family (Qin et al. 2024, arXiv:2404.10518) on timm's blocks: two fused inverted-bottleneck stages, then
two stages of universal inverted bottlenecks after MobileNetV4-Conv-S.

The fused stages are timm's EdgeResidual rather than Conv-S's pairs of convolutions, so that a deeper student gains residual
blocks and not a longer plain chain.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, Network, Place, StudentPlan, staged_plan


@dataclass(frozen=True)
class Bottleneck:
    """Kernel of the depthwise convolution before the expansion and of the one after it (0: none), and the expansion."""

    start: int
    middle: int
    expansion: float


FUSED_EXPANSIONS = (1.0, 3.0)
BOTTLENECKS = (
    (Bottleneck(5, 5, 3), *(Bottleneck(0, 3, 2),) * 4, Bottleneck(3, 0, 4)),
    (
        Bottleneck(3, 3, 6),
        Bottleneck(5, 5, 4),
        Bottleneck(0, 5, 4),
        Bottleneck(0, 5, 3),
        Bottleneck(0, 3, 4),
        Bottleneck(0, 3, 4),
    ),
)


def plan(spec: StudentSpec) -> StudentPlan:
    """MobileNetV4-Conv-S at width 1 and depth 1, but for the fused stages' residual form. Its bottlenecks differ within a
    stage; a kernel or an expansion asked for is that of all of them, and the fused stages keep their own."""
    blocks = (1, 1, *map(len, BOTTLENECKS))
    return staged_plan(spec, stem=32, channels=(32, 64, 96, 128), blocks=blocks, head=(960, 1280))


def assemble(plan: StudentPlan, classes: int, merged: bool) -> Network:
    """The network of `plan`. Nothing is merged but batch norms, so `merged` changes nothing here."""
    from timm.models._efficientnet_blocks import EdgeResidual, UniversalInvertedResidual

    from edgedistill.networks.families.stages import chained

    def block(place: Place) -> Network:
        if place.number < len(FUSED_EXPANSIONS):
            ratio = place.ratio(place.inputs, FUSED_EXPANSIONS[place.number])
            return EdgeResidual(place.inputs, place.outputs, 3, stride=place.stride, exp_ratio=ratio)
        kind = _kind(BOTTLENECKS[place.number - len(FUSED_EXPANSIONS)], place.index)
        return UniversalInvertedResidual(
            place.inputs,
            place.outputs,
            dw_kernel_size_start=kind.start and (place.kernel or kind.start),
            dw_kernel_size_mid=kind.middle and (place.kernel or kind.middle),
            stride=place.stride,
            exp_ratio=place.ratio(place.inputs, place.expansion or kind.expansion),
            layer_scale_init_value=None,
        )

    return chained(plan, block, classes)


def _kind(kinds: tuple[Bottleneck, ...], index: int) -> Bottleneck:
    """The first block is always the stage's own, which can stride; beyond the list, the others come round again."""
    return kinds[index] if index < len(kinds) else kinds[1 + (index - 1) % (len(kinds) - 1)]


FAMILY = Family(
    name="mobilenetv4",
    title="MobileNetV4-like",
    widths=(0.25, 0.35, 0.5, 0.7, 0.85, 1.0, 1.4, 2.0),
    depths=(0.35, 0.5, 1.0, 1.5),
    make_plan=plan,
    assemble=assemble,
    kernels=(3, 5, 7),
    expansions=(2.0, 3.0, 4.0, 6.0),
)
