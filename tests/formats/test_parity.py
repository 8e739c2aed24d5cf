"""What a file may be away from its model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.base.errors import TrialFailure
from edgedistill.documents.specs import Precision
from edgedistill.formats.parity import parity_of
from edgedistill.networks.program.program import rounding_of
from edgedistill.networks.tasks import CLASSIFICATION

REFERENCE = np.array([[10.0, -4.0, 1.0], [2.0, 3.0, 8.0]], np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8)


def never() -> float:
    raise AssertionError("nothing to ask for")


def test_a_file_within_its_precision_passes_without_a_word() -> None:
    parity, remarks = parity_of(CLASSIFICATION, REFERENCE + np.float32(0.019), REFERENCE, Precision.FP32, never)
    assert parity.max_abs_error == pytest.approx(0.019, rel=1e-3)
    assert (parity.top1_agreement, parity.images, remarks) == (1.0, 2, ())
    assert parity_of(CLASSIFICATION, REFERENCE[:, ::-1], REFERENCE, Precision.INT8, never)[0].top1_agreement == 0.0


def test_more_than_rounding_explains_has_failed() -> None:
    with pytest.raises(TrialFailure, match=r"differ from the model's by up to 0\.03, and the largest of them is 10"):
        parity_of(CLASSIFICATION, REFERENCE + np.float32(0.03), REFERENCE, Precision.FP32, lambda: 0.007)
    with pytest.raises(TrialFailure):
        parity_of(CLASSIFICATION, REFERENCE + np.float32(0.6), REFERENCE, Precision.FP16, never)
    with pytest.raises(TrialFailure, match=r"gives \[2, 2\] where the model gives \[2, 3\]"):
        parity_of(CLASSIFICATION, REFERENCE[:, :2], REFERENCE, Precision.FP32, never)


def test_a_model_that_magnifies_rounding_excuses_as_much() -> None:
    parity, (said,) = parity_of(CLASSIFICATION, REFERENCE + np.float32(0.03), REFERENCE, Precision.FP32, lambda: 0.008)
    assert parity.max_abs_error > 0.02
    assert "own fp32 outputs are up to 0.008 from fp64" in said


class Cancelling(nn.Module):
    """A linear layer behind a difference of large numbers: what is left of its input is rounding, magnified."""

    def __init__(self, large: float) -> None:
        super().__init__()
        self.large = large
        self.head = nn.Linear(3, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(((image / 255).mean((2, 3)) + self.large) - self.large)


def test_rounding_is_measured_against_fp64() -> None:
    torch.manual_seed(0)
    plain = rounding_of(Cancelling(0.0).eval(), IMAGES)
    magnified = rounding_of(Cancelling(1e5).eval(), IMAGES)
    assert 0 < plain < 1e-6
    assert 1e-4 < magnified < 1e-1


def test_the_module_is_left_as_it_was() -> None:
    module = Cancelling(0.0).eval()
    rounding_of(module, IMAGES)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_module_that_insists_on_fp32_has_no_rounding_to_tell() -> None:
    class Insisting(Cancelling):
        def forward(self, image: Tensor) -> Tensor:
            return self.head((image.float() / 255).mean((2, 3)))

    assert rounding_of(Insisting(0.0).eval(), IMAGES) == 0.0
