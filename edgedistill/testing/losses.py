"""What every loss keeps, as tests.

    from edgedistill.testing import LossConformance

    class TestMine(LossConformance):
        def function(self):
            return my_package.my_loss

pytest then tells, by name, where a loss would spoil a training: numbers that are not finite, gradients into the teacher, a
result that depends on the order of images.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgedistill.distill.recipes.losses import Loss

CLASSES = 5
LOWEST = -65504.0
"""The least logit that a teacher's stored outputs have: float16's."""


class LossConformance:
    """Subclass it, and give `function`."""

    def function(self) -> Callable[..., Tensor]:
        """The loss under test."""
        raise NotImplementedError("give function()")

    # -- what the tests share -----------------------------------------------------------------------------------------

    def loss(self) -> Loss:
        """It, with what it takes and its settings."""
        return Loss.of("under_test", self.function())

    def value(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """The loss at its defaults."""
        loss = self.loss()
        inputs = {"teacher": teacher, "labels": labels, "anchors": teacher}
        return loss.function(student, *(inputs[name] for name in loss.inputs), **loss.settings().model_dump())

    def batch(self, images: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Student and teacher [images, CLASSES] and the shares of the labels, a fourth of the images mixed."""
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (3 * torch.randn(images, CLASSES, generator=generator) for _ in range(2))
        own, other = (F.one_hot(torch.randint(0, CLASSES, (images,), generator=generator), CLASSES) for _ in range(2))
        share = torch.where(torch.arange(images) % 4 == 3, 0.7, 1.0)[:, None]
        return student, teacher, share * own + (1 - share) * other

    def gradient(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Of the student's logits."""
        student = student.clone().requires_grad_()
        self.value(student, teacher, labels).backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None, "nothing flows back to the student"
        return student.grad

    # -- the tests ----------------------------------------------------------------------------------------------------

    def test_its_signature_tells_what_it_takes(self) -> None:
        loss = self.loss()
        assert loss.function.__doc__, "it has no docstring"
        assert loss.settings().model_dump().keys() == loss.settings.model_fields.keys()

    def test_it_is_one_finite_number(self) -> None:
        for images in (2, 16, 128):
            value = self.value(*self.batch(images))
            assert value.shape == () and value.dtype == torch.float32 and torch.isfinite(value)

    def test_the_student_learns(self) -> None:
        gradient = self.gradient(*self.batch())
        assert torch.isfinite(gradient).all() and float(gradient.abs().max()) > 0

    def test_a_step_downhill_lowers_it(self) -> None:
        student, teacher, labels = self.batch()
        gradient = self.gradient(student, teacher, labels)
        lower = self.value(student - 1e-2 * gradient / gradient.norm(), teacher, labels)
        assert lower < self.value(student, teacher, labels)

    def test_its_inputs_are_as_they_were(self) -> None:
        given = self.batch()
        before = [tensor.clone() for tensor in given]
        self.value(*given)
        assert all(torch.equal(old, new) for old, new in zip(before, given, strict=True)), "it changed an input"

    def test_the_order_of_images_means_nothing(self) -> None:
        given = self.batch()
        order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(self.value(*(tensor[order] for tensor in given)), self.value(*given))

    @pytest.mark.parametrize(
        "case", ["no label", "sure teacher", "sure student", "equal logits", "one class in the batch"]
    )
    def test_extremes_are_finite(self, case: str) -> None:
        student, teacher, labels = self.batch()
        sure = torch.full((16, CLASSES), LOWEST)
        sure[torch.arange(16), torch.arange(16) % CLASSES] = 0
        match case:
            case "no label":
                labels = torch.zeros_like(labels)
            case "sure teacher":
                teacher = sure
            case "sure student":
                student = sure / 500
            case "equal logits":
                student, teacher = torch.zeros_like(student), torch.zeros_like(teacher)
            case "one class in the batch":
                teacher, labels = (
                    sure[:1].expand(16, -1),
                    F.one_hot(torch.zeros(16, dtype=torch.int64), CLASSES).float(),
                )
        assert torch.isfinite(self.value(student, teacher, labels)), case
        assert torch.isfinite(self.gradient(student, teacher, labels)).all(), f"{case}: the gradient"

    def test_it_takes_every_value_of_its_settings_that_it_names(self) -> None:
        """Defaults are inside their ranges, and a value far outside is refused."""
        fields = self.loss().settings.model_fields
        ranged = [name for name, field in fields.items() if field.metadata and field.annotation is float]
        for name in ranged:
            with pytest.raises(ValueError, match=name):
                self.loss().settings.model_validate({name: -1e9})
