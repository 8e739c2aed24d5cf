"""Weights of networks that are only measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.initialise import draw_constants

CONTRACT = Contract(resolution=32, mean=(120, 115, 100), std=(60, 57, 58), labels=("a", "b", "c"))


def alike(network: nn.Module) -> list[str]:
    """Names of tensors that have one value throughout, or that another has too."""
    found, seen = [], set()
    for name, values in network.named_parameters():
        content = values.detach().numpy().tobytes()
        if content in seen or (values.numel() > 1 and len(values.detach().unique()) == 1):
            found.append(name)
        seen.add(content)
    return found


@pytest.mark.parametrize("family", ["resnet", "mobilenetv4", "mobileone", "timm"])
def test_no_tensor_is_like_another(family: str) -> None:
    torch.manual_seed(0)
    if family == "timm":
        import timm

        network = timm.create_model("resnet10t", num_classes=3)
    else:
        network = build_student(StudentSpec(family=family, width=0.25, depth=1.0, resolution=32), CONTRACT)
    assert alike(network), "fresh ones are"
    before = {name: values.detach().clone() for name, values in network.named_parameters()}
    draw_constants(network)
    assert alike(network) == []
    if family != "timm":
        assert alike(deploy(network)) == []
    drawn = [name for name, values in network.named_parameters() if not torch.equal(values, before[name])]
    assert all(len(before[name].unique()) == 1 for name in drawn), "what was random already stays"
