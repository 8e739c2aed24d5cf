"""What is read back of a teacher's logits, by the number of classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from edgedistill.distill.stored.encoding import (
    LOWEST,
    MOST_BYTES,
    MOST_DENSE,
    TOP,
    Bytes,
    Dense,
    Encoding,
    Features,
    Rows32,
    Top,
    encoding_of,
    shifted,
)

seeds = st.integers(0, 2**31 - 1)
scales = st.floats(0.01, 30)


def logits(classes: int, seed: int, scale: float = 3.0, images: int = 8) -> Rows32:
    rng = np.random.default_rng(seed)
    return shifted(rng.normal(0, scale, (images, classes)).astype(np.float32))


def probabilities(values: NDArray[np.float16] | Rows32, temperature: float = 1.0) -> torch.Tensor:
    return (torch.from_numpy(values.astype(np.float64)) / temperature).softmax(1)


def read_back(encoding: Encoding, values: Rows32) -> NDArray[np.float16]:
    """Through a file's bytes."""
    written = encoding.encode(values).tobytes()
    assert len(written) == len(values) * encoding.record.itemsize
    return encoding.decode(np.frombuffer(written, encoding.record))


@pytest.mark.parametrize(
    ("classes", "kind", "record_bytes"),
    [
        (2, Dense, 4),
        (MOST_DENSE, Dense, 2 * MOST_DENSE),
        (MOST_DENSE + 1, Bytes, MOST_DENSE + 5),
        (1000, Bytes, 1004),
        (MOST_BYTES, Bytes, MOST_BYTES + 4),
        (MOST_BYTES + 1, Top, 6 * TOP + 4),
        (21_841, Top, 6 * TOP + 4),
    ],
)
def test_the_number_of_classes_chooses(classes: int, kind: type[Encoding], record_bytes: int) -> None:
    encoding = encoding_of("logits", classes)
    assert type(encoding) is kind and encoding.record.itemsize == record_bytes


@given(seeds, scales)
def test_dense_is_as_near_as_float16(seed: int, scale: float) -> None:
    values = logits(10, seed, scale)
    np.testing.assert_array_equal(read_back(encoding_of("logits", 10), values), values.astype(np.float16))


@settings(max_examples=30)
@given(seeds, scales)
def test_bytes_keep_both_ends_and_the_order_between(seed: int, scale: float) -> None:
    values = logits(300, seed, scale)
    found = read_back(encoding_of("logits", 300), values).astype(np.float32)
    assert (found.max(1) == 0).all()
    np.testing.assert_allclose(found.min(1), values.min(1), rtol=1e-3)
    for row in range(len(values)):
        assert (np.diff(found[row][values[row].argsort()]) >= 0).all()
    # Half a step of the root on either side: |x| - |x'| <= sqrt(lowest x) / 255, and float16's own rounding.
    lowest = -values.min(1, keepdims=True)
    allowed = np.sqrt(lowest * -values) / 255 + lowest / 510**2 + 1e-3 * lowest
    assert (np.abs(found - values) <= allowed + 1e-6).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("scale", [2.0, 4.0, 8.0])
def test_bytes_teach_as_float16_does(temperature: float, scale: float) -> None:
    """The gradient of `kl` for a student whose logits are one deviation off the teacher's."""
    values = logits(1000, 0, scale, 64)
    student = torch.from_numpy(values + np.random.default_rng(1).normal(0, 1, values.shape))
    q = (student / temperature).softmax(1)
    exact, stored = (
        q - probabilities(teacher, temperature)
        for teacher in (values.astype(np.float16), read_back(encoding_of("logits", 1000), values))
    )
    assert float(F.cosine_similarity(exact.flatten(), stored.flatten(), dim=0)) > 0.999


@pytest.mark.parametrize("scale", [2.0, 8.0])
def test_the_largest_are_kept_and_the_rest_has_its_probability(scale: float) -> None:
    values = logits(10_000, 0, scale)
    found = read_back(encoding_of("logits", 10_000), values)
    top = np.argsort(values, axis=1)[:, -TOP:]
    kept = np.take_along_axis(found, top, axis=1)
    np.testing.assert_array_equal(kept, np.take_along_axis(values, top, axis=1).astype(np.float16))
    exact, stored = probabilities(values), probabilities(found)
    torch.testing.assert_close(
        exact.gather(1, torch.from_numpy(top)).sum(1), stored.gather(1, torch.from_numpy(top)).sum(1), atol=1e-3, rtol=0
    )


@given(seeds, st.sampled_from([0.5, 2.0, 4.0, 8.0]))
@settings(max_examples=20, deadline=None)
def test_the_error_of_what_is_not_kept_is_stated(seed: int, scale: float) -> None:
    """Total variation at temperature 2, which the kept probability at temperature 1 says nothing of."""
    values = logits(MOST_BYTES + 200, seed, scale)
    encoding = encoding_of("logits", MOST_BYTES + 200)
    records = np.frombuffer(encoding.encode(values).tobytes(), encoding.record)
    stated = encoding.stated_error(records)
    exact, stored = probabilities(values, 2.0), probabilities(encoding.decode(records), 2.0)
    assert stated is not None
    np.testing.assert_allclose(stated, (exact - stored).abs().sum(1) / 2, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("classes", [10, 1000])
def test_nothing_is_stated_where_all_classes_are_kept(classes: int) -> None:
    encoding = encoding_of("logits", classes)
    assert encoding.stated_error(encoding.encode(logits(classes, 0))) is None


@pytest.mark.parametrize("classes", [10, 1000, 10_000])
def test_the_ends_of_the_range(classes: int) -> None:
    sure = np.full((2, classes), LOWEST, np.float32)
    sure[:, 3] = 0
    for values in (sure, np.zeros((2, classes), np.float32)):
        found = probabilities(read_back(encoding_of("logits", classes), values))
        torch.testing.assert_close(found, probabilities(values), atol=1e-6, rtol=1e-3)


def test_a_shift_of_huge_logits_does_not_overflow() -> None:
    values = np.array([[3e38, -3e38, 0.0]], np.float32)
    np.testing.assert_array_equal(shifted(values), [[0, LOWEST, LOWEST]])


@given(seeds, scales)
def test_features_are_a_127th_of_their_largest_apart(seed: int, scale: float) -> None:
    values = np.random.default_rng(seed).normal(0, scale, (16, 96)).astype(np.float32)
    encoding = encoding_of("features", 96)
    assert type(encoding) is Features and encoding.record.itemsize == 100
    found = read_back(encoding, values).astype(np.float32)
    largest = np.abs(values).max(axis=1, keepdims=True)
    assert (np.abs(found - values) <= largest * (0.5 / 127 + 1e-3)).all()


def test_features_at_the_ends_of_the_range() -> None:
    values = np.array([[0, 0, 0], [65504, -3e4, 0]], np.float32)
    found = read_back(encoding_of("features", 3), values)
    assert np.isfinite(found).all() and (found[0] == 0).all() and found[1].argmax() == 0
