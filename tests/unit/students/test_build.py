"""Students train, and what is exported equals what was trained."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from edgedistill.errors import InputError
from edgedistill.specs import Contract, StudentSpec
from edgedistill.students.build import Normalised, build_student, deploy
from edgedistill.students.families import FAMILIES

CLASSES = 10


def contract(resolution: int) -> Contract:
    labels = tuple(str(i) for i in range(CLASSES))
    return Contract(resolution=resolution, mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0), labels=labels)


def spec_of(name: str, resolution: int, width: float | None = None, depth: float | None = None) -> StudentSpec:
    family = FAMILIES[name]
    return StudentSpec(
        family=name, width=width or family.widths[0], depth=depth or family.depths[0], resolution=resolution
    )


def student(name: str, resolution: int) -> Normalised:
    torch.manual_seed(0)
    return build_student(spec_of(name, resolution), contract(resolution))


def images(count: int, resolution: int) -> Tensor:
    return torch.rand(count, 3, resolution, resolution, generator=torch.Generator().manual_seed(1)) * 255


def disturb_batch_norms(module: nn.Module) -> None:
    """Statistics and scales as training leaves them: none at zero or one."""
    generator = torch.Generator().manual_seed(2)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        count = norm.num_features
        norm.running_mean = torch.randn(count, generator=generator) * 0.3
        norm.running_var = torch.rand(count, generator=generator) + 0.5
        norm.weight.data = torch.rand(count, generator=generator) + 0.5
        norm.bias.data = torch.randn(count, generator=generator) * 0.2


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("resolution", [8, 28, *(pytest.param(side, marks=pytest.mark.slow) for side in (64, 224))])
def test_the_deployed_student_equals_the_trained_one(name: str, resolution: int) -> None:
    # In float64, so that what is left between the two is no rounding that a deep network magnified. timm merges RepViT's
    # blocks into convolutions of float32.
    dtype, tolerance = (torch.float32, 1e-4) if name == "repvit" else (torch.float64, 1e-9)
    trained = student(name, resolution)
    disturb_batch_norms(trained)
    trained.to(dtype)
    before = copy.deepcopy(trained.state_dict())
    deployed = deploy(trained)
    trained.eval()
    pixels = images(2, resolution).to(dtype)
    with torch.no_grad():
        expected, actual = trained(pixels), deployed(pixels)
    assert expected.shape == (2, CLASSES)
    assert expected.std() > 1e-3
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()
    assert all(torch.equal(before[key], value) for key, value in trained.state_dict().items())


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_of_training_is_left_in_the_deployed_student(name: str) -> None:
    deployed = deploy(student(name, 16))
    assert not any(isinstance(m, nn.BatchNorm2d | nn.Dropout) for m in deployed.modules())
    assert not any(module.training for module in deployed.modules())
    assert not any(p.requires_grad for p in deployed.parameters())
    convolutions = [n for n, m in deployed.named_modules() if isinstance(m, nn.Conv2d)]
    assert not any("conv_kxk" in n or "conv_scale" in n for n in convolutions)


@pytest.mark.parametrize(
    "model", ["resnet18", "efficientnet_lite0", "densenet121", "resnetv2_50", "repvgg_a0", "vit_tiny_patch16_224"]
)
def test_deploying_a_teacher_changes_none_of_its_outputs(model: str) -> None:
    torch.manual_seed(0)
    teacher = timm.create_model(model, num_classes=CLASSES)
    disturb_batch_norms(teacher)
    deployed = deploy(teacher)
    teacher.eval()
    side = 224 if model.startswith("vit") else 64
    with torch.no_grad():
        expected, actual = teacher(images(2, side)), deployed(images(2, side))
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("resolution", [8, 20, 96])
def test_maps_halve_where_the_plan_says(name: str, resolution: int) -> None:
    network = deploy(student(name, resolution)).network
    sides: list[int] = []

    def note(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        if not sides or sides[-1] != output.shape[-1]:
            sides.append(output.shape[-1])

    before_pool = list(network)[: [type(m).__name__ for m in network].index("AdaptiveAvgPool2d")]
    for module in before_pool:
        module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.zeros(1, 3, resolution, resolution))
    planned = FAMILIES[name].plan(spec_of(name, resolution)).sides
    assert sides == list(dict.fromkeys(planned))
    assert sides[-1] >= 3


@pytest.mark.parametrize("name", FAMILIES)
def test_corners_of_a_family_build_and_run(name: str) -> None:
    family = FAMILIES[name]
    for width in (family.widths[0], family.widths[-1]):
        for depth in (family.depths[0], family.depths[-1]):
            for resolution in (8, 11, 224):
                network = family.skeleton(family.plan(spec_of(name, resolution, width, depth)), 3)
                assert network(torch.empty(2, 3, resolution, resolution, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_student_learns_a_separable_problem_at_8_px(name: str) -> None:
    module = student(name, 8)
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(20) % 4
    patterns = torch.rand(4, 3, 8, 8, generator=generator) * 255
    batch = (patterns[labels] + torch.randn(20, 3, 8, 8, generator=generator) * 10).clamp(0, 255)
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3)
    losses = []
    for _ in range(25):
        loss = nn.functional.cross_entropy(module(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < 0.2 * losses[0]


def test_one_seed_gives_one_student() -> None:
    first, second = student("resnet", 8).state_dict(), student("resnet", 8).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_normalisation_is_inside_and_is_not_trained() -> None:
    module = student("resnet", 8).eval()
    raw = images(2, 8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((120.0, 110.0, 100.0), (60.0, 61.0, 62.0)))
    with torch.no_grad():
        assert torch.allclose(module(raw), module.network((raw - mean) / std), atol=1e-6)
    assert {"mean", "std"} <= dict(module.named_buffers()).keys()


def test_unknown_families_and_another_resolution_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean resnet"):
        build_student(StudentSpec(family="resnets", width=1, depth=1, resolution=8), contract(8))
    with pytest.raises(ValueError, match="16 px"):
        build_student(StudentSpec(family="resnet", width=1, depth=1, resolution=8), contract(16))
