"""Networks without weights: the shapes of those with, and nothing but the meta device is concerned."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from timm.layers import trunc_normal_
from torch import nn

from edgedistill.specs import StudentSpec
from edgedistill.students.families import FAMILIES
from edgedistill.students.weightless import Weightless


@pytest.mark.parametrize("name", FAMILIES)
def test_a_skeleton_has_the_shapes_of_the_network_with_weights(name: str) -> None:
    family = FAMILIES[name]
    plan = family.plan(StudentSpec(family=name, width=family.widths[0], depth=family.depths[0], resolution=28))
    with torch.device("meta"):
        expected = family.assemble(plan, 10, True).eval()
    found = family.skeleton(plan, 10)
    assert str(found) == str(expected) and not found.training
    described = [
        [(name, t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for name, t in tensors]
        for module in (found, expected)
        for tensors in (module.named_parameters(), module.named_buffers())
    ]
    assert described[:2] == described[2:]


def test_values_elsewhere_are_written() -> None:
    weight = torch.zeros(8, 8)
    with Weightless():
        for initialise in (
            nn.init.kaiming_uniform_,
            nn.init.normal_,
            partial(nn.init.constant_, val=3.0),
            trunc_normal_,
        ):
            before = weight.clone()
            assert initialise(weight) is weight
            assert not torch.equal(weight, before), initialise
        weight[0, 0] = 7.0
        assert weight[0, 0] == 7
        assert torch.empty(2).is_meta and nn.Linear(2, 2).weight.is_meta
    assert not torch.empty(2).is_meta


def test_it_ends_with_an_error() -> None:
    with pytest.raises(RuntimeError, match="stop"), Weightless():
        raise RuntimeError("stop")
    assert nn.init.constant_(torch.empty(2), 3.0).tolist() == [3.0, 3.0]
