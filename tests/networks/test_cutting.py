"""A network cut down: what stays is what it was, and has the shapes that width and depth say."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch_pruning.dependency import Group

from edgedistill.base.errors import InputError
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import build_student
from edgedistill.networks.counting import structure_of
from edgedistill.networks.cutting import CannotBeCutError, cut
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.timm_models import timm_family
from edgedistill.networks.scaling import scaled_channels
from edgedistill.networks.space import enumerate_space
from tests.networks.test_timm_models import TARGET

SIDE = 64
CONVOLUTIONAL = ("efficientnet_lite0", "mobilenetv4_conv_small", "resnet18", "mobilenetv3_small_050", "repvit_m0_9")


def made(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = timm.create_model(name, num_classes=7)
    return network


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_shapes_depend_on_width_and_depth_alone(name: str) -> None:
    first, second = (cut(made(name, seed), 0.5, 0.5, SIDE, 8) for seed in (0, 1))
    assert shapes(first) == shapes(second)
    assert all(m.out_channels % 8 == 0 for m in first.modules() if isinstance(m, nn.Conv2d))
    whole, left = (sum(p.numel() for p in network.parameters()) for network in (made(name), first))
    assert left < whole / 3
    first.eval()
    image = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = first(image)
        assert expected.shape == (2, 7)
        assert torch.allclose(deploy(first)(image), expected, atol=1e-4)


def test_it_trains_in_whatever_mode_it_was() -> None:
    network = cut(made("resnet18").train(), 0.5, 1, SIDE, 8)
    assert network.training
    network(torch.rand(2, 3, SIDE, SIDE)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert not cut(made("resnet18").eval(), 0.5, 1, SIDE, 8).training


def test_the_largest_channels_stay_with_their_weights() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 16, 1)
            self.classifier = nn.Linear(16, 7)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.classifier(self.second(self.first(image).relu()).mean((2, 3)))
            return logits

    torch.manual_seed(0)
    network = Small()
    large = torch.zeros(32, dtype=torch.bool)
    large[torch.randperm(32)[:16]] = True
    with torch.no_grad():
        network.first.weight[large] *= 10
        network.second.weight[:, large] *= 10
    kept = network.first.weight[large].clone()
    cut(network, 0.5, 1, 8, 8)
    assert torch.equal(network.first.weight, kept)
    assert network.second.weight.shape[:2] == (8, 16)
    assert network.classifier.weight.shape == (7, 8)


def test_the_first_blocks_of_each_run_stay() -> None:
    whole = made("resnet18")
    expected = {name: tensor for name, tensor in whole.state_dict().items() if ".1." not in name[6:9]}
    network = cut(made("resnet18"), 1, 0.5, SIDE, 8)
    state = network.state_dict()
    assert {name for name in state if name.startswith("layer")} == {n for n in expected if n.startswith("layer")}
    assert all(torch.equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize(("width", "wanted"), [(0.5, 16), (0.6, 24), (0.99, 32), (0.01, 8)])
def test_channels_are_those_of_a_width_of_a_family(width: float, wanted: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7))
    assert cut(network, width, 1, 8, 8)[0].out_channels == wanted == min(32, scaled_channels(32, width, 8))


def test_networks_whose_code_states_their_shapes_are_left_out() -> None:
    with pytest.raises(CannotBeCutError):
        cut(timm.create_model("test_vit", num_classes=7, img_size=SIDE), 0.5, 1, SIDE, 8)
    config = SpaceConfig(models=("timm:test_vit", "timm:test_resnet"), resolutions=(SIDE,), depths=(1.0,))
    space = enumerate_space(config, 7, None, TARGET)
    assert [(c.spec.family, c.spec.width) for c in space.candidates] == [
        ("timm:test_vit", 1.0),
        *(("timm:test_resnet", width) for width in (0.5, 0.75, 1.0)),
    ]
    assert "2 with a network that cannot be cut" in space.sentence


@pytest.mark.parametrize("seed", range(3))
def test_a_network_whose_shapes_would_depend_on_its_weights_is_never_cut(seed: int) -> None:
    """Half of a ghost module's channels are made of the other half: how many go depends on which are the smallest."""
    with pytest.raises(CannotBeCutError, match="channels left in place of"):
        cut(made("ghostnet_050", seed), 0.5, 1, SIDE, 8)


def test_a_model_is_not_made_larger() -> None:
    config = SpaceConfig(models=("timm:test_resnet",), resolutions=(SIDE,), widths=(0.5, 2.0), depths=(1.0,))
    assert [c.spec.width for c in enumerate_space(config, 7, None, TARGET).candidates] == [0.5, 1.0]


def test_the_figures_of_a_cut_model_are_those_of_the_deployed_student() -> None:
    labels = tuple("abcdefg")
    contract = Contract(resolution=SIDE, mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0), labels=labels)
    spec = StudentSpec(family="timm:efficientnet_lite0", width=0.5, depth=0.5, resolution=SIDE)
    family = timm_family("efficientnet_lite0")
    space = enumerate_space(
        SpaceConfig(models=(family.name,), resolutions=(SIDE,), widths=(0.5,), depths=(0.5,)), 7, None, TARGET
    )
    (candidate,) = space.candidates
    assert candidate.spec == spec
    assert structure_of(deploy(build_student(spec, contract)), SIDE) == candidate.structure


def test_a_run_whose_blocks_are_runs_loses_blocks_of_both() -> None:
    """A stage that keeps its shape is a block of the run of stages, and a later stage has blocks of its own."""

    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU())

    stages = nn.Sequential(
        nn.Sequential(block(3, 8)),
        nn.Sequential(block(8, 8)),
        nn.Sequential(block(8, 16), block(16, 16), block(16, 16), block(16, 16)),
    )
    network = nn.Sequential(stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7))
    first, last = stages[0], stages[2]
    cut(network, 1, 0.5, 8, 8)
    assert list(stages) == [first, last] and len(last) == 2
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 7)


def test_an_image_that_the_whole_network_cannot_take_is_not_the_cuts_fault() -> None:
    network = nn.Sequential(nn.Conv2d(3, 32, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        cut(network, 0.5, 1, 4, 8)
    config = SpaceConfig(models=("timm:inception_v3",), resolutions=(32,), widths=(0.5,), depths=(1.0,))
    with pytest.raises(InputError, match="inception_v3 cannot take images of 32 px"):
        enumerate_space(config, 7, None, TARGET)


def test_of_cuts_that_leave_the_same_network_the_largest_is_a_candidate() -> None:
    """The runs of test_resnet have one block: its depth changes nothing."""
    config = SpaceConfig(models=("timm:test_resnet",), resolutions=(SIDE,), widths=(0.5, 0.6, 1.0), depths=(0.5, 1.0))
    found = [(c.spec.width, c.spec.depth) for c in enumerate_space(config, 7, None, TARGET).candidates]
    assert found == [(0.5, 1.0), (0.6, 1.0), (1.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("efficientformerv2_s0", {"img_size": 32, "embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_vit": 1}),
        ("rexnet_100", {"width_mult": 0.25}),
    ],
)
def test_what_would_not_end_is_given_up(name: str, small: dict[str, object]) -> None:
    """Without a bound both take many minutes, and the first one gigabytes."""
    network, before = timm.create_model(name, num_classes=7, **small), Group.add_dep
    with pytest.raises(CannotBeCutError, match="cannot be followed"):
        cut(network, 0.5, 1.0, 32, 8)
    assert Group.add_dep is before
