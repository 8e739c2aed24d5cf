"""Students train, and what is exported equals what was trained."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from edgedistill.base.errors import InputError
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import Normalised, build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.registry import FAMILIES

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
