"""Losses of logits against their definitions and invariants."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from edgedistill.distill.recipes.logits import (
    correlation,
    cross_entropy,
    decorrelation,
    decoupled_kl,
    jensen_shannon,
    kl,
    soft_cross_entropy,
    standardised_kl,
)

seeds = st.integers(0, 2**31 - 1)
temperatures = st.floats(0.5, 20)
scales = st.floats(0.1, 10)
shifts = st.floats(-50, 50)
CLASSES, BATCH = 7, 5


def logits(seed: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(seed: int) -> Tensor:
    classes = torch.randint(0, CLASSES, (BATCH,), generator=torch.Generator().manual_seed(seed))
    return F.one_hot(classes, CLASSES).double()


def mixed(seed: int) -> Tensor:
    share = torch.rand(BATCH, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return share * labels(seed) + (1 - share) * labels(seed + 1)


# -- kl -------------------------------------------------------------------------------------------------------------


@given(seeds, temperatures)
def test_kl_is_zero_for_the_same_distribution_and_positive_for_another(seed: int, temperature: float) -> None:
    assert abs(kl(logits(seed), logits(seed), temperature=temperature)) < 1e-9
    assert kl(logits(seed), logits(seed + 1), temperature=temperature) > 1e-6


@given(seeds, temperatures, shifts, shifts)
def test_kl_is_unchanged_by_a_shift_of_either_row(seed: int, temperature: float, a: float, b: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    rows = torch.arange(BATCH, dtype=torch.float64)[:, None]
    moved = kl(student + a * rows, teacher + b * rows, temperature=temperature)
    torch.testing.assert_close(moved, kl(student, teacher, temperature=temperature))


@given(seeds, temperatures)
def test_kl_against_its_definition(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(kl(student, teacher, temperature=temperature), expected)


def test_high_temperature_matches_centred_logits() -> None:
    """Hinton et al., section 2.1: as T grows, the gradient tends to the difference of centred logits over the classes."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    kl(student, teacher, temperature=1e4).backward()  # type: ignore[no-untyped-call]
    centred = [x - x.mean(1, keepdim=True) for x in (student.detach(), teacher)]
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (centred[0] - centred[1]) / CLASSES / BATCH, rtol=1e-2, atol=1e-4)


# -- labels ---------------------------------------------------------------------------------------------------------


@given(seeds, st.floats(0, 0.9))
def test_cross_entropy_is_torchs(seed: int, smoothing: float) -> None:
    for target in (labels(seed), mixed(seed)):
        ours = cross_entropy(logits(seed), target, smoothing=smoothing)
        torch.testing.assert_close(ours, F.cross_entropy(logits(seed), target, label_smoothing=smoothing))


@given(seeds, st.floats(0, 0.9))
def test_a_label_weighs_the_same_however_many_images_have_none(seed: int, smoothing: float) -> None:
    known = cross_entropy(logits(seed), labels(seed), smoothing=smoothing)
    more, none = torch.cat([logits(seed), logits(seed + 1)]), torch.zeros(BATCH, CLASSES)
    half = cross_entropy(more, torch.cat([labels(seed), none]), smoothing=smoothing)
    torch.testing.assert_close(half, known / 2, msg="the batch is twice as large, the sum the same")
    assert float(cross_entropy(logits(seed), none, smoothing=smoothing)) == 0


def test_a_tenth_of_a_label_weighs_a_tenth() -> None:
    target = torch.zeros(BATCH, CLASSES, dtype=torch.float64)
    target[0, 3] = 0.1
    expected = -0.1 * logits(0).log_softmax(1)[0, 3] / BATCH
    torch.testing.assert_close(cross_entropy(logits(0), target), expected)


# -- decoupled_kl ---------------------------------------------------------------------------------------------------


@given(seeds, temperatures)
def test_kl_is_its_two_decoupled_parts(seed: int, temperature: float) -> None:
    """Zhao et al., equation 6: KL = TCKD + (1 - p_target) * NCKD, image by image."""
    student, teacher, classes = logits(seed), logits(seed + 1), labels(seed)
    for row in range(BATCH):
        one = slice(row, row + 1)
        of = [
            decoupled_kl(student[one], teacher[one], classes[one], temperature=temperature, target=t, others=o)
            for t, o in ((1.0, 0.0), (0.0, 1.0))
        ]
        rest = 1 - (teacher[row] / temperature).softmax(0)[classes[row].argmax()]
        torch.testing.assert_close(of[0] + rest * of[1], kl(student[one], teacher[one], temperature=temperature))


@given(seeds)
def test_without_a_label_the_teachers_class_is_taken(seed: int) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    told = F.one_hot(teacher.argmax(1), CLASSES).double()
    torch.testing.assert_close(
        decoupled_kl(student, teacher, torch.zeros_like(told)), decoupled_kl(student, teacher, told)
    )


# -- correlation ----------------------------------------------------------------------------------------------------


@given(seeds, scales, shifts)
def test_decorrelation_is_unchanged_by_positive_affine_maps_of_rows(seed: int, scale: float, shift: float) -> None:
    """DIST's inter-class term by rows, and, transposed, its intra-class term by columns."""
    a, b = logits(seed), logits(seed + 1)
    torch.testing.assert_close(decorrelation(scale * a + shift, b), decorrelation(a, b))
    torch.testing.assert_close(decorrelation(a, -b), 2 - decorrelation(a, b))
    assert abs(float(decorrelation(scale * a + shift, a))) < 1e-9


@given(seeds)
def test_decorrelation_against_numpys(seed: int) -> None:
    a, b = logits(seed), logits(seed + 1)
    found = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(a, b, strict=True)]
    assert float(decorrelation(a, b)) == pytest.approx(1 - sum(found) / BATCH)


@given(seeds, temperatures)
def test_correlation_is_the_sum_of_its_parts(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    p, q = ((x / temperature).softmax(1) for x in (student, teacher))
    expected = temperature**2 * (2 * decorrelation(p, q) + 3 * decorrelation(p.T, q.T))
    ours = correlation(student, teacher, temperature=temperature, classes=2.0, images=3.0)
    torch.testing.assert_close(ours, expected)


def test_a_class_that_the_batch_lacks_makes_no_nan() -> None:
    student = logits(0).requires_grad_()
    teacher = torch.full((BATCH, CLASSES), -65504.0, dtype=torch.float64)
    teacher[:, 0] = 0
    correlation(student, teacher).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None and torch.isfinite(student.grad).all()


# -- the others -----------------------------------------------------------------------------------------------------


@given(seeds)
def test_jensen_shannon_is_symmetric_and_bounded(seed: int) -> None:
    a, b = logits(seed, 20.0), logits(seed + 1, 20.0)
    found = float(jensen_shannon(a, b))
    assert found == pytest.approx(float(jensen_shannon(b, a)))
    assert 0 < found <= math.log(2) + 1e-9
    assert abs(float(jensen_shannon(a, a + 3))) < 1e-9
    p, q = a.softmax(1), b.softmax(1)
    middle = (p + q) / 2
    expected = ((p * (p / middle).log()).nansum(1) + (q * (q / middle).log()).nansum(1)).mean() / 2
    assert found == pytest.approx(float(expected), rel=1e-6)


@given(seeds, temperatures, scales, scales, shifts)
def test_standardised_kl_is_unchanged_by_positive_affine_maps(
    seed: int, temperature: float, a: float, b: float, shift: float
) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    torch.testing.assert_close(
        standardised_kl(a * student + shift, b * teacher - shift, temperature=temperature),
        standardised_kl(student, teacher, temperature=temperature),
    )


def test_standardised_kl_of_equal_logits_is_finite() -> None:
    student = torch.ones(BATCH, CLASSES, dtype=torch.float64).requires_grad_()
    standardised_kl(student, logits(1)).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None and torch.isfinite(student.grad).all()


@given(seeds)
def test_soft_cross_entropy_is_kl_and_the_teachers_entropy(seed: int) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    p = teacher.softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(soft_cross_entropy(student, teacher), kl(student, teacher, temperature=1.0) + entropy)
