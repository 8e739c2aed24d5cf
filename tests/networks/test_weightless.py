"""Networks without weights: the shapes of those with, and nothing but the meta device is concerned."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from timm.layers import trunc_normal_
from timm.utils import reparameterize_model
from torch import nn

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.counting import structure_of
from edgedistill.networks.families.family import StudentPlan
from edgedistill.networks.families.registry import FAMILIES
from edgedistill.networks.shapes import Shapes
from edgedistill.networks.weightless import Weightless


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


@pytest.mark.parametrize("name", ["fastvit", "mobileone", "repvgg", "repvit"])
def test_branches_may_be_merged_without_weights(name: str) -> None:
    """As a third party's family may do it: timm merges what was made for training. Its own families are made merged."""

    def merged_by_timm(plan: StudentPlan, classes: int, merged: bool) -> nn.Module:
        network = own.assemble(plan, classes, False).eval()
        return reparameterize_model(network, inplace=True) if merged else network

    own = FAMILIES[name]
    shapes = Shapes()
    for kernel in (None, *own.kernels):
        spec = StudentSpec(family=name, width=own.widths[0], depth=own.depths[1], resolution=28, kernel=kernel)
        networks = [f.skeleton(own.plan(spec), 10) for f in (own, replace(own, assemble=merged_by_timm))]
        made, merged = (structure_of(network, 28, shapes) for network in networks)
        assert made == merged == structure_of(networks[1], 28)


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
