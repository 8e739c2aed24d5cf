"""Losses of features: what they are, and what they do not see."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgedistill.distill.recipes.features import LEAST_DIFFERENCE, log_sum


def pair(seed: int) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, 12, 7, generator=torch.Generator().manual_seed(seed))
    return student, teacher


@given(st.integers(0, 2**31), st.floats(1, 8))
def test_log_sum_is_the_logarithm_of_a_mean_power(seed: int, exponent: float) -> None:
    student, teacher = pair(seed)
    expected = (student - teacher).abs().double().pow(exponent).mean().log().float()
    torch.testing.assert_close(log_sum(student, teacher, exponent=exponent), expected, atol=1e-4, rtol=1e-4)


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_the_gradient_of_log_sum_does_not_fade(seed: int, scale: float) -> None:
    """Differences that are a times as large add a constant to it, and leave step times difference as it was."""
    student, teacher = pair(seed)
    whole, scaled = student.clone().requires_grad_(), (scale * student).requires_grad_()
    first, second = log_sum(whole, teacher), log_sum(scaled, scale * teacher)
    torch.testing.assert_close(second - first, torch.tensor(4 * math.log(scale)), atol=1e-3, rtol=1e-4)
    first.backward()  # type: ignore[no-untyped-call]
    second.backward()  # type: ignore[no-untyped-call]
    assert whole.grad is not None and scaled.grad is not None
    torch.testing.assert_close(scale * scaled.grad, whole.grad, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("exponent", [1.0, 4.0, 16.0])
def test_equal_and_far_features_are_finite(exponent: float) -> None:
    student, teacher = pair(0)
    assert log_sum(student, student, exponent=exponent) == pytest.approx(
        exponent * math.log(LEAST_DIFFERENCE), rel=1e-4
    )
    assert torch.isfinite(log_sum(1e30 * student, teacher, exponent=exponent))
