"""Cross-validation: which images each student leaves out and answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.base.progress import Event, Note
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import UNLABELLED, GreyImages
from edgedistill.data.splits import Splits
from edgedistill.data.views import draw_views
from edgedistill.documents.build_file import BuildConfig
from edgedistill.pipeline.crossing import mixing_groups, parts_of
from edgedistill.pipeline.prepare import _warn_of_small_split


def dataset(train: list[int], validation: list[int], test: int = 3) -> Dataset:
    """With labels of the training and the validation images, and some for the test."""
    labels = np.array([*validation, *train, *([0] * test)], np.int64)
    ends = np.cumsum([len(validation), len(train), test])
    of_validation, of_train, of_test = np.split(np.arange(ends[-1], dtype=np.int64), ends[:-1])
    images = GreyImages(np.zeros((len(labels), 8, 8), np.uint8))
    return Dataset("made", ("a", "b"), labels, images, Splits(of_train, of_validation, of_test, None), "")


@given(
    st.lists(st.sampled_from([0, 1, UNLABELLED]), min_size=4, max_size=60),
    st.lists(st.sampled_from([0, 1]), min_size=1, max_size=20),
    st.integers(2, 20),
)
def test_each_image_with_a_label_is_answered_once_by_a_student_without_it(
    train: list[int], validation: list[int], count: int
) -> None:
    data = dataset(train, validation)
    parts = list(parts_of(data, count, 0))
    known = data.splits.train[data.labels[data.splits.train] != UNLABELLED]
    judging = np.concatenate([known, data.splits.validation])
    rows = np.concatenate([part.rows for part in parts])
    assert len(parts) == count and sorted(rows.tolist()) == list(range(len(judging)))
    for part in parts:
        assert part.indices.tolist() == judging[part.rows].tolist()
        trained_on = np.delete(data.splits.train, part.left_out)
        assert not set(trained_on.tolist()) & set(part.indices.tolist())
        assert len(trained_on) + len(np.intersect1d(part.indices, data.splits.train)) == len(train)


@pytest.mark.parametrize("mixing", [{"mix": 0.7}, {"cutmix": 0.7}, {}])
def test_no_view_that_is_trained_on_shows_an_image_that_is_left_out(mixing: dict[str, float]) -> None:
    """An image without a label is in no part, and is mixed with others of its kind."""
    data = dataset([0, 1, UNLABELLED] * 20, [0, 1] * 4)
    config = BuildConfig.model_validate(
        {"budget": "5ms", "teacher": {"model": "timm:resnet18"}, "augmentation": mixing, "search": {"folds": 5}}
    )
    bench: Any = SimpleNamespace(config=config, taught=data)
    groups = mixing_groups(bench)
    assert (groups is None) is (not mixing)
    views = draw_views(60, config.view_augmentation, 0, groups)
    mixed = np.flatnonzero(views["mix_partner"] != np.arange(60))
    assert len(mixed) >= 20 * len(mixing)
    for part in parts_of(data, 5, config.data.split.seed) if mixing else ():
        shown = np.isin(views["mix_partner"], part.left_out)
        assert shown.any() and set(np.flatnonzero(shown)) <= set(part.left_out.tolist())


def test_parts_have_their_share_of_each_class() -> None:
    data = dataset([0] * 40 + [1] * 20, [0] * 10 + [1] * 5)
    for part in parts_of(data, 5, 0):
        assert np.bincount(data.labels[part.indices]).tolist() == [10, 5]


@pytest.mark.parametrize("folds", [None, 5])
def test_a_small_split_is_warned_of_with_the_way_out(folds: int | None) -> None:
    heard: list[Event] = []
    _warn_of_small_split(dataset([0, 1] * 20, [0, 1] * 20), folds, heard.append)
    (note,) = heard
    assert isinstance(note, Note) and note.warning is (folds is None)
    assert ("set [search] folds = 5" in note.text) is (folds is None)
    assert ("ranked by cross-validation of 5 parts" in note.text) is (folds is not None)
    _warn_of_small_split(dataset([0, 1] * 20, [0, 1] * 100), folds, heard.append)
    assert len(heard) == 1
