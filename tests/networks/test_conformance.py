"""Every family that comes with edgedistill passes the public conformance suite, and what is wrong does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from edgedistill.networks.families.family import Family, Stage, StudentPlan
from edgedistill.networks.families.registry import FAMILIES
from edgedistill.testing import FamilyConformance


def suite(family: Family) -> type[FamilyConformance]:
    return type(f"Test_{family.name}", (FamilyConformance,), {"family": lambda self: family})


for _family in FAMILIES.values():
    globals()[f"Test_{_family.name}"] = suite(_family)

MOBILEONE, RESNET = FAMILIES["mobileone"], FAMILIES["resnet"]


def with_plan(change: Callable[[StudentPlan], StudentPlan]) -> Family:
    return replace(RESNET, make_plan=lambda spec: change(RESNET.make_plan(spec)))


def collapsing(plan: StudentPlan) -> StudentPlan:
    return replace(plan, stages=tuple(replace(stage, stride=2) for stage in plan.stages))


class Idle(nn.Sequential):
    """A network with a layer that computes nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.idle = nn.Conv2d(8, 8, 1)

    def forward(self, image: Any) -> Any:
        return self[0](image)


BROKEN: list[tuple[str, Family, Callable[[FamilyConformance], None], str]] = [
    (
        "channels that the target does not like",
        with_plan(lambda plan: replace(plan, stem_channels=plan.stem_channels + 1)),
        lambda s: s.test_plans_are_whole_and_no_map_collapses(),
        "resnet w0.125 d0.5 @8: ",
    ),
    (
        "maps that collapse",
        with_plan(collapsing),
        lambda s: s.test_plans_are_whole_and_no_map_collapses(),
        "maps of ",
    ),
    (
        "a plan that the network does not follow",
        with_plan(lambda plan: replace(plan, stages=(*plan.stages[:-1], Stage(1024, 1, 2)))),
        lambda s: replace_assemble(s).test_the_network_is_the_planned_one(28),
        "planned but not there: .*1024",
    ),
    (
        "branches that the merged network still has",
        replace(MOBILEONE, assemble=lambda plan, classes, merged: MOBILEONE.assemble(plan, classes, False)),
        lambda s: s.test_the_deployed_student_equals_the_trained_one("plain"),
        "merged is not as deployed",
    ),
    (
        "weights that nothing trains",
        replace(RESNET, assemble=lambda plan, classes, merged: Idle(RESNET.assemble(plan, classes, merged))),
        lambda s: s.test_gradients_reach_every_parameter(),
        "not trained: .*idle.weight",
    ),
    (
        "a kernel that changes nothing",
        replace(RESNET, kernels=(3, 5)),
        lambda s: s.test_an_axis_is_there_or_refused("kernel"),
        "the kernel changes nothing",
    ),
    (
        "widths that round to one network",
        replace(RESNET, widths=(0.125, 0.126)),
        lambda s: s.test_every_value_of_a_range_is_a_network_of_its_own("widths"),
        r"of widths, \[0.125, 0.126\] are one network",
    ),
]


def replace_assemble(broken: FamilyConformance) -> FamilyConformance:
    """The same plans over the networks of the sound family."""
    family = broken.family()

    def assemble(plan: StudentPlan, classes: int, merged: bool) -> nn.Module:
        return RESNET.assemble(replace(plan, stages=plan.stages[:-1]), classes, merged)

    return suite(replace(family, assemble=assemble))()


@pytest.mark.parametrize(("family", "run", "told"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_family_is_found_out(family: Family, run: Callable[[FamilyConformance], None], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        run(suite(family)())
