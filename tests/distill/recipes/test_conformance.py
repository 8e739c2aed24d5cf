"""Every loss that comes with edgedistill keeps the public suite, and the suite finds losses that do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from edgedistill.distill.recipes.losses import losses
from edgedistill.testing import LossConformance


def suite(function: Callable[..., Tensor]) -> type[LossConformance]:
    return type(f"Test_{function.__name__}", (LossConformance,), {"function": lambda self: function})


for _loss in losses().values():
    globals()[f"Test_{_loss.name}"] = suite(_loss.function)


def not_a_mean(student: Tensor, teacher: Tensor) -> Tensor:
    """One value an image."""
    return (student - teacher).square().mean(1)


def detached(student: Tensor, teacher: Tensor) -> Tensor:
    """Nothing to learn from."""
    return (student.detach() - teacher).square().mean() + 0 * student.sum()


def uphill(student: Tensor, teacher: Tensor) -> Tensor:
    """Its gradient is that of another function."""
    value = (student - teacher).square().mean()
    return 2 * value.detach() - value


def in_place(student: Tensor, teacher: Tensor) -> Tensor:
    """Standardises what it was lent."""
    teacher -= teacher.mean(1, keepdim=True)
    return (student - teacher).square().mean()


def by_place(student: Tensor, teacher: Tensor) -> Tensor:
    """The first images count more."""
    weight = torch.linspace(1, 0, len(student))[:, None]
    return (weight * (student - teacher).square()).mean()


def logs_of_zero(student: Tensor, teacher: Tensor) -> Tensor:
    """NaN where the teacher is sure."""
    p = teacher.softmax(1)
    return (p * (p.log() - student.log_softmax(1))).sum(1).mean()


@pytest.mark.parametrize(
    ("function", "test"),
    [
        (not_a_mean, LossConformance.test_it_is_one_finite_number),
        (detached, LossConformance.test_the_student_learns),
        (uphill, LossConformance.test_a_step_downhill_lowers_it),
        (in_place, LossConformance.test_its_inputs_are_as_they_were),
        (by_place, LossConformance.test_the_order_of_images_means_nothing),
        (logs_of_zero, lambda found: LossConformance.test_extremes_are_finite(found, "sure teacher")),
    ],
)
def test_a_broken_loss_is_found_out(function: Callable[..., Tensor], test: Callable[[LossConformance], None]) -> None:
    with pytest.raises(AssertionError):
        test(suite(function)())
