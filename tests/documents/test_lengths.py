"""Batches and rungs where images are few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgedistill.documents.build_file import AugmentationConfig, SearchConfig, TrainConfig
from edgedistill.documents.lengths import (
    EPOCHS,
    FEWEST_STEPS,
    FEWEST_VIEWS,
    LONGEST_STEPS,
    MOST_VIEWS,
    VIEWED_IMAGES,
    batch_size_of,
    epochs_of,
    views_of,
)


@pytest.mark.parametrize(
    ("images", "batch"), [(2, 16), (254, 16), (511, 16), (512, 32), (1038, 64), (2047, 64), (2048, 128), (60_000, 128)]
)
def test_few_images_make_small_batches(images: int, batch: int) -> None:
    assert batch_size_of("auto", images) == batch
    assert batch_size_of(7, images) == 7


@given(st.integers(256, 10**6))
def test_an_epoch_has_sixteen_steps_or_more(images: int) -> None:
    assert images // batch_size_of("auto", images) >= 15


@given(st.integers(1, 5000))
def test_rungs_by_default_are_epochs_and_steps_enough(steps_per_epoch: int) -> None:
    *found, last = epochs_of(None, steps_per_epoch)
    first = [*found, last][: len(EPOCHS)]
    assert all(epochs >= least for epochs, least in zip(first, EPOCHS, strict=True))
    assert all(epochs * steps_per_epoch >= least for epochs, least in zip(first, FEWEST_STEPS, strict=True))
    if steps_per_epoch >= 80:
        assert tuple(first) == EPOCHS
    longer = LONGEST_STEPS / steps_per_epoch > 2 * first[-1] - 1
    assert len(found) == (len(EPOCHS) if longer else len(EPOCHS) - 1)
    if longer:
        assert last >= 2 * first[-1] and LONGEST_STEPS <= last * steps_per_epoch < LONGEST_STEPS + steps_per_epoch


def test_the_longest_rung_is_for_few_images() -> None:
    assert epochs_of(None, 18) == (18, 36, 72, 285)  # 1,143 images in batches of 64
    assert epochs_of(None, 160) == (4, 8, 16, 32)  # 20,480 images in batches of 128
    assert epochs_of(None, 170) == (4, 8, 16)


@given(st.integers(0, 10**6))
def test_few_images_have_more_views(images: int) -> None:
    views = views_of("auto", images)
    assert FEWEST_VIEWS <= views <= MOST_VIEWS
    assert views >= views_of("auto", images + 1), "one image more never means more views of each"
    assert views * images <= max(VIEWED_IMAGES, FEWEST_VIEWS * images)
    assert views_of(7, images) == 7


def test_rungs_as_they_are_named() -> None:
    assert epochs_of((1, 3, 10), 5) == (1, 3, 10)
    assert epochs_of(("100 steps", "250 steps", "1000 steps"), 100) == (1, 3, 10)
    assert epochs_of(("1 step", "2 steps", "300 steps"), 100) == (1, 2, 3), "each at least an epoch later"


@pytest.mark.parametrize("rungs", [[4, 8, 16], [1], ["500 steps", "1000 steps"]])
def test_a_build_file_takes_epochs_or_steps(rungs: list[object]) -> None:
    assert SearchConfig.model_validate({"rungs": rungs}).rungs == tuple(rungs)


@pytest.mark.parametrize(
    "rungs", [[], [8, 4], [4, 4], [0, 1], [4, "500 steps"], ["500 steps", "400 steps"], ["500"], ["5 epochs"], [1.5]]
)
def test_other_rungs_are_refused(rungs: list[object]) -> None:
    with pytest.raises(ValidationError):
        SearchConfig.model_validate({"rungs": rungs})


@pytest.mark.parametrize("batch_size", ["automatic", 0, -1, 2.5])
def test_other_batches_are_refused(batch_size: object) -> None:
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({"batch_size": batch_size})


@pytest.mark.parametrize("views", ["automatic", 0, 1001, 2.5])
def test_other_views_are_refused(views: object) -> None:
    with pytest.raises(ValidationError):
        AugmentationConfig.model_validate({"views": views})


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_a_seed_that_no_generator_takes_is_refused(seed: object) -> None:
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({"seed": seed})
