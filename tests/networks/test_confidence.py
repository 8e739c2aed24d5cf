"""Temperature, reliability and the threshold of "none of these"."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.networks.confidence import (
    COLDEST,
    HOTTEST,
    calibration_error,
    none_below,
    probabilities,
    reliability,
    temperature_of,
)


def drawn(seed: int, images: int = 4000, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the very probabilities that they say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, classes)).astype(np.float32)
    shares = probabilities(logits)
    labels = (shares.cumsum(axis=1) > rng.random((images, 1))).argmax(axis=1)
    return logits, labels


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_what_made_logits_too_sure(factor: float) -> None:
    logits, labels = drawn(0)
    assert temperature_of(factor * logits, labels) == pytest.approx(factor, rel=0.06)


@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_it_has_the_least_cross_entropy_of_all_and_lies_in_its_range(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = factor * rng.normal(size=(40, 4)), rng.integers(0, 4, 40)
    found = temperature_of(logits, labels)
    assert COLDEST <= found <= HOTTEST

    def loss(temperature: float) -> float:
        shares = probabilities(logits, temperature)
        right = shares[np.arange(40), labels]
        target = np.full_like(shares, (1 - 41 / 42) / 3)
        target[np.arange(40), labels] = 41 / 42
        assert (right > 0).all()
        return float(-(target * np.log(shares)).sum(axis=1).mean())

    others = [found * step for step in (0.8, 0.95, 1.05, 1.25) if COLDEST < found * step < HOTTEST]
    assert all(loss(found) <= loss(other) + 1e-6 for other in others)


def test_answers_that_are_all_right_are_not_certain() -> None:
    """Of 50 right answers the chance of a wrong one is about 1 in 50."""
    labels = np.arange(50) % 5
    logits = np.eye(5)[labels]
    sure = probabilities(logits, temperature_of(logits, labels)).max(axis=1)
    assert sure == pytest.approx(np.full(50, 51 / 52), abs=1e-3)


def test_one_class_needs_no_temperature() -> None:
    assert temperature_of(np.ones((3, 1)), np.zeros(3, np.int64)) == 1.0


def test_the_calibration_error_is_the_papers() -> None:
    """Two parts: 4 answers at 0.95 of which 3 are right, 2 at 0.5 of which 1 is."""
    confidence = np.array([0.95] * 4 + [0.5] * 2)
    right = np.array([True, True, True, False, True, False])
    assert reliability(confidence, right) == [(2, 0.5, 0.5), (4, pytest.approx(0.95), 0.75)]
    assert calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.2)
    assert reliability(np.array([1.0, 0.0]), np.array([True, False])) == [(1, 0.0, 0.0), (1, 1.0, 1.0)]


def test_honest_probabilities_have_nearly_no_calibration_error() -> None:
    logits, labels = drawn(1, images=20_000)
    for factor, most in ((1.0, 0.02), (3.0, 1.0)):
        shares = probabilities(factor * logits)
        error = calibration_error(shares.max(axis=1), shares.argmax(axis=1) == labels)
        assert error < most
    assert error > 0.1


@given(st.integers(0, 10_000), st.floats(0, 0.99), st.integers(1, 60))
def test_the_threshold_loses_no_more_right_answers_than_asked(seed: int, lost: float, images: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(images).round(1), rng.random(images) < 0.7
    threshold = none_below(confidence, right, lost)
    assert (confidence[right] < threshold).sum() <= lost * right.sum()
    if lost == 0 or not right.any():
        assert not (confidence[right] < threshold).any()
