from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.distill import evaluate
from edgedistill.distill.evaluate import outputs_of, split_quality
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.specs import Contract


class Brightness(nn.Module):
    """Class 1 for an image brighter than half."""

    def forward(self, image: Tensor) -> Tensor:
        level = image.mean((1, 2, 3)) - 127.5
        return torch.stack([-level, level], 1)


def test_outputs_come_in_the_order_of_the_images() -> None:
    images = np.zeros((300, 3, 4, 4), np.uint8)
    images[100:] = 255
    outputs = outputs_of(Brightness(), images)
    assert outputs.dtype == np.float32
    assert (outputs.argmax(1) == np.repeat([0, 1], [100, 200])).all()


def test_mode_is_left_as_it_was_and_eval_inside() -> None:
    module = nn.Sequential(Brightness(), nn.Dropout(0.999))
    module.train()
    images = np.full((50, 3, 4, 4), 255, np.uint8)
    assert (outputs_of(module, images) == [-127.5, 127.5]).all()
    assert module.training


def test_in_batches_equals_at_once(
    small_teacher: Teacher, digits: Dataset, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = digits.splits.validation
    at_once = outputs_of(small_teacher.module, prepare(digits.images, chosen, contract))
    monkeypatch.setattr(evaluate, "BATCH", 7)
    assert (
        split_quality(small_teacher.module, digits, chosen, contract)
        == (at_once.argmax(1) == digits.labels[chosen]).mean()
    )
