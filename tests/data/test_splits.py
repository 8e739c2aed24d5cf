from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.base.errors import InputError
from edgedistill.data.sources import GreyImages, Loaded
from edgedistill.data.splits import limited, make_splits, stratified
from edgedistill.documents.build_file import SplitConfig

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)
FRACTION = st.floats(0.01, 0.49)


def labelled(counts: list[int], seed: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    return np.random.default_rng(seed).permutation(labels)


def loaded(labels: np.ndarray, **given: np.ndarray) -> Loaded:
    train = given.pop("train", np.arange(len(labels)))
    images = GreyImages(np.zeros((len(labels), 2, 2), np.uint8))
    return Loaded("x", ("a", "b", "c"), labels, images, train, **given)


@given(COUNTS, FRACTION, FRACTION, st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_parts_are_disjoint_cover_all_and_hold_their_share_of_each_class(
    counts: list[int], first: float, second: float, seed: int
) -> None:
    labels = labelled(counts, 0)
    parts = stratified(labels, (first, second), seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part in parts:
        assert (np.diff(part) > 0).all()
    for one, count in enumerate(counts):
        sizes = [int((labels[part] == one).sum()) for part in parts]
        assert sizes[0] >= 1
        assert abs(sizes[1] - first * count) <= 1
        assert abs(sizes[2] - second * count) <= 1


@given(COUNTS, FRACTION, st.integers(0, 2**32))
@settings(max_examples=50)
def test_the_same_seed_draws_the_same_split(counts: list[int], fraction: float, seed: int) -> None:
    labels = labelled(counts, 1)
    for one, other in zip(stratified(labels, (fraction,), seed), stratified(labels, (fraction,), seed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_draw_is_fixed_for_all_time() -> None:
    """Splits are part of a result: a release that draws others must say so."""
    assert stratified(np.arange(20) % 2, (0.2,), 7)[1].tolist() == [1, 2, 11, 18]


def test_another_seed_draws_another_split() -> None:
    labels = np.arange(200) % 3
    assert stratified(labels, (0.2,), 0)[1].tolist() != stratified(labels, (0.2,), 1)[1].tolist()


@given(COUNTS, st.integers(1, 300), st.integers(0, 100))
@settings(max_examples=200)
def test_a_limit_keeps_classes_and_their_proportions(counts: list[int], limit: int, seed: int) -> None:
    labels = labelled(counts, 2)
    train = np.arange(len(labels))
    if limit < min(len(counts), len(labels)):
        with pytest.raises(InputError, match="classes"):
            limited(train, labels, limit, seed)
        return
    kept = limited(train, labels, limit, seed)
    assert len(kept) == min(limit, len(labels))
    assert len(set(kept.tolist())) == len(kept)
    assert set(labels[kept].tolist()) == set(labels.tolist())
    np.testing.assert_array_equal(kept, limited(train, labels, limit, seed))


def test_given_splits_are_kept_and_have_no_seed() -> None:
    labels = np.arange(12) % 3
    parts = {"train": np.arange(6), "validation": np.arange(6, 9), "test": np.arange(9, 12)}
    splits = make_splits(loaded(labels, **parts), SplitConfig())
    assert splits.seed is None
    for name, part in parts.items():
        np.testing.assert_array_equal(getattr(splits, name), part)


def test_a_missing_validation_split_is_taken_from_train_alone() -> None:
    labels = np.arange(120) % 3
    splits = make_splits(loaded(labels, train=np.arange(90), test=np.arange(90, 120)), SplitConfig(seed=3))
    assert splits.seed == 3
    np.testing.assert_array_equal(splits.test, np.arange(90, 120))
    np.testing.assert_array_equal(np.sort(np.concatenate([splits.train, splits.validation])), np.arange(90))
    assert len(splits.validation) == round(0.15 * 90)


def test_fractions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="nothing is left"):
        make_splits(loaded(np.arange(30) % 3), SplitConfig(validation=0.5, test=0.5))


def test_too_few_images_to_split_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        make_splits(loaded(np.arange(3)), SplitConfig())
