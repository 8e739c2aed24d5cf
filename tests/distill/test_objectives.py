from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from edgedistill.distill.recipes.logits import cross_entropy, distillation_loss, kl_divergence

seeds = st.integers(0, 2**31 - 1)
temperatures = st.floats(0.5, 20)
CLASSES, BATCH = 7, 5


def logits(seed: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(seed: int) -> torch.Tensor:
    return torch.randint(0, CLASSES, (BATCH,), generator=torch.Generator().manual_seed(seed))


@given(seeds, temperatures)
def test_kl_is_zero_for_the_same_distribution(seed: int, temperature: float) -> None:
    assert abs(kl_divergence(logits(seed), logits(seed), temperature)) < 1e-9


@given(seeds, temperatures)
def test_kl_is_positive_for_another_distribution(seed: int, temperature: float) -> None:
    assert kl_divergence(logits(seed), logits(seed + 1), temperature) > 1e-6


@given(seeds, temperatures, st.floats(-50, 50), st.floats(-50, 50))
def test_kl_is_unchanged_by_a_shift_of_either_row(seed: int, temperature: float, a: float, b: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    shifts = torch.arange(BATCH, dtype=torch.float64)[:, None]
    moved = kl_divergence(student + a * shifts, teacher + b * shifts, temperature)
    torch.testing.assert_close(moved, kl_divergence(student, teacher, temperature))


@given(seeds, temperatures)
def test_kl_against_its_definition(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(kl_divergence(student, teacher, temperature), expected)


def test_high_temperature_matches_centred_logits() -> None:
    """Hinton et al., section 2.1: as T grows, the gradient tends to the difference of centred logits over the classes."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    kl_divergence(student, teacher, 1e4).backward()
    centred = [x - x.mean(1, keepdim=True) for x in (student.detach(), teacher)]
    torch.testing.assert_close(student.grad, (centred[0] - centred[1]) / CLASSES / BATCH, rtol=1e-2, atol=1e-4)


@given(seeds, st.floats(0, 0.9))
def test_cross_entropy_of_unmixed_labels_is_torchs(seed: int, smoothing: float) -> None:
    ones = torch.ones(BATCH, dtype=torch.float64)
    ours = cross_entropy(logits(seed), labels(seed), labels(seed + 1), ones, smoothing)
    torch.testing.assert_close(ours, F.cross_entropy(logits(seed), labels(seed), label_smoothing=smoothing))


@given(seeds)
def test_cross_entropy_of_mixed_labels_is_that_of_the_mixed_target(seed: int) -> None:
    lam = torch.rand(BATCH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one_hot = [F.one_hot(labels(s), CLASSES).double() for s in (seed, seed + 1)]
    target = lam[:, None] * one_hot[0] + (1 - lam[:, None]) * one_hot[1]
    ours = cross_entropy(logits(seed), labels(seed), labels(seed + 1), lam)
    torch.testing.assert_close(ours, F.cross_entropy(logits(seed), target))


@settings(max_examples=30)
@given(seeds, temperatures, st.floats(0, 1))
def test_distillation_lies_between_its_two_parts(seed: int, temperature: float, weight: float) -> None:
    lam = torch.rand(BATCH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    parts = (labels(seed), labels(seed + 1), lam)
    soft = kl_divergence(logits(seed), logits(seed + 2), temperature)
    hard = cross_entropy(logits(seed), *parts)
    loss = distillation_loss(logits(seed), logits(seed + 2), *parts, temperature=temperature, hard_label_weight=weight)
    torch.testing.assert_close(loss, soft + weight * (hard - soft))
