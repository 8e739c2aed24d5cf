"""What a family of students is: its ranges of width, depth and the like, and how a choice becomes a network.

A choice first becomes a `StudentPlan`, plain numbers of channels, blocks and strides; two choices with one plan are one
network. Importing a family imports neither torch nor timm: only `build` and `skeleton` do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from edgedistill.base.errors import InputError, Problem
from edgedistill.documents.specs import CHANNEL_MULTIPLE, StudentSpec
from edgedistill.networks.families.strides import map_sides, strides
from edgedistill.networks.scaling import scaled_blocks, scaled_channels

if TYPE_CHECKING:
    from torch import nn

Network: TypeAlias = "nn.Module"
"""A network, by a name that is there without torch."""

LARGEST_RATE = 0.032
"""The largest learning rate that was tried (benchmarks/rates.py)."""
RESOLUTIONS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224)


@dataclass(frozen=True)
class Stage:
    """A run of `blocks` blocks with `channels` channels out; the first has this stride, the others stride 1.

    `kernel` is the side of the blocks' convolutions that mix places, `expansion` how many times wider they are inside: 0
    where they have none, or each its own.
    """

    channels: int
    blocks: int
    stride: int
    kernel: int = 0
    expansion: float = 0


@dataclass(frozen=True)
class Place:
    """Where a block stands in a network: `number` counts the stages and `index` the blocks of a stage, both from 0.
    `inputs` and `outputs` are its channels, `multiple` what channels are multiples of."""

    number: int
    index: int
    inputs: int
    outputs: int
    stride: int
    kernel: int
    expansion: float
    multiple: int

    def hidden(self, channels: int, expansion: float = 0) -> int:
        """Channels inside a block that widens `channels` by `expansion`, which is the stage's own where none is given."""
        return scaled_channels(channels, expansion or self.expansion, self.multiple)

    def ratio(self, channels: int, expansion: float = 0) -> float:
        """What timm's blocks multiply `channels` by and round down to come to `hidden`: half a channel above it, so that
        no rounding of the quotient costs one."""
        return (self.hidden(channels, expansion) + 0.5) / channels


@dataclass(frozen=True)
class StudentPlan:
    """A network without its weights or classes: the input's side in pixels, the stem's channels and stride, the stages, and
    the channels of the head's layers before the classifier (families without such layers have none). Channels are multiples
    of `channel_multiple`. Two specs with one plan are one network."""

    resolution: int
    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head_channels: tuple[int, ...] = ()
    channel_multiple: int = CHANNEL_MULTIPLE

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the feature map after the stem and after each stage."""
        return map_sides(self.resolution, (self.stem_stride, *(stage.stride for stage in self.stages)))

    @property
    def last_side(self) -> int:
        """Side of the last feature map."""
        return self.sides[-1]

    def places(self) -> Iterator[Place]:
        """Every block in turn. The first of a stage takes the channels of the stage before and has the stage's stride."""
        inputs = self.stem_channels
        for number, stage in enumerate(self.stages):
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                yield Place(
                    number, index, inputs, stage.channels, stride, stage.kernel, stage.expansion, self.channel_multiple
                )
                inputs = stage.channels


_HAVING: dict[str, dict[str, None]] = {"kernel": {}, "expansion": {}}
"""The families that were loaded and have a choice of an axis, in the order in which they were."""


@dataclass(frozen=True)
class Family:
    """A family of students.

    `widths`, `depths` and `resolutions` are what the space tries by default; any width and depth above zero and any
    resolution from 8 px builds. `kernels` and `expansions` are those worth asking for in place of the family's own; a
    family without them has no such choice. `make_plan(spec)` is pure arithmetic. `assemble(plan, classes, merged)` makes
    the network; with `merged`, already with the branches of training merged as `deploy` merges them. `learning_rate` is
    what suits its student of width 1 as the highest rate of AdamW's schedule, in batches of 16 to 128.
    """

    name: str
    title: str
    widths: tuple[float, ...]
    depths: tuple[float, ...]
    make_plan: Callable[[StudentSpec], StudentPlan]
    assemble: Callable[[StudentPlan, int, bool], Network]
    resolutions: tuple[int, ...] = RESOLUTIONS
    kernels: tuple[int, ...] = ()
    expansions: tuple[float, ...] = ()
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        for axis, names in _HAVING.items():
            if self.choices(axis):
                names[self.name] = None

    def plan(self, spec: StudentSpec) -> StudentPlan:
        """The plan of `spec`. Raises InputError where it sets a kernel or an expansion that this family has no choice of,
        naming the families that have."""
        problems = [
            Problem(spec.label, f"{self.name} has no {axis} to choose", f"leave it out, or take {with_axis(axis)}")
            for axis in ("kernel", "expansion")
            if getattr(spec, axis) is not None and not self.choices(axis)
        ]
        if problems:
            raise InputError("a student asks for what its family does not have", problems=problems)
        return self.make_plan(spec)

    def choices(self, axis: str) -> tuple[float, ...]:
        """What is worth trying on the axis `kernel` or `expansion`; empty where the family has no such axis."""
        return self.kernels if axis == "kernel" else self.expansions

    def rate(self, spec: StudentSpec) -> float:
        """The learning rate for a student: the wider it is, the lower, as Adam's should be with the inputs of a layer
        (https://arxiv.org/abs/2203.03466, table 3)."""
        return min(self.learning_rate / spec.width, LARGEST_RATE)

    def build(self, spec: StudentSpec, classes: int) -> Network:
        """A trainable network with fresh weights: float [N, 3, R, R], already normalised, to logits [N, classes]. Weights
        come from torch's global generator, so seed it first where it matters. Raises InputError as `plan` does."""
        from edgedistill.networks.initialise import initialise

        network = self.assemble(self.plan(spec), classes, False)
        initialise(network)
        return network

    def skeleton(self, plan: StudentPlan, classes: int) -> Network:
        """The merged network on the meta device, in eval mode: shapes without weights."""
        from edgedistill.networks.weightless import Weightless

        with Weightless():
            return self.assemble(plan, classes, True).eval()

    def skeletons(self, plans: Iterable[StudentPlan], classes: int) -> Iterator[Network]:
        """`skeleton` of each of `plans`, which differ in their resolution alone: what they share may be made once."""
        return (self.skeleton(plan, classes) for plan in plans)


def with_axis(axis: str) -> str:
    """The names of the families loaded so far that have a choice of `kernel` or `expansion`."""
    return ", ".join(_HAVING[axis])


def staged_plan(
    spec: StudentSpec,
    stem: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    head: Sequence[int] = (),
    kernels: Sequence[int] = (),
    expansions: Sequence[float] = (),
) -> StudentPlan:
    """The plan of a stem and stages, each a place where the map may halve, scaled by the spec's width and depth. `kernels`
    and `expansions` are the family's own, one a stage, which the spec's replace; without them a stage has none but the
    spec's."""
    stem_stride, *stage_strides = strides(spec.resolution, 1 + len(channels))
    none = (0,) * len(channels)
    return StudentPlan(
        resolution=spec.resolution,
        stem_channels=scaled_channels(stem, spec.width, spec.channel_multiple),
        stem_stride=stem_stride,
        stages=tuple(
            Stage(
                scaled_channels(width, spec.width, spec.channel_multiple),
                scaled_blocks(count, spec.depth),
                stride,
                spec.kernel or kernel,
                spec.expansion or expansion,
            )
            for width, count, stride, kernel, expansion in zip(
                channels, blocks, stage_strides, kernels or none, expansions or none, strict=True
            )
        ),
        head_channels=tuple(scaled_channels(c, spec.width, spec.channel_multiple) for c in head),
        channel_multiple=spec.channel_multiple,
    )
