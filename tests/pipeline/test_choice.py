"""Which recipe the default comes to, by what is known and by a pilot."""

from __future__ import annotations

import pytest

from edgedistill.distill.recipes.choice import Known, options_for
from edgedistill.documents.recipes import RECIPES
from edgedistill.documents.results import PilotRun
from edgedistill.pipeline.choice import clearly_best


def run(recipe: str, quality: float) -> PilotRun:
    return PilotRun(recipe=recipe, student="resnet w1 d1 @8", epochs=8, quality_validation=quality)


@pytest.mark.parametrize(
    ("qualities", "images", "best"),
    [
        ((0.80, 0.90), 30, "kd"),
        ((0.80, 0.90), 300, "labels"),
        ((0.90, 0.80), 300, "kd"),
        ((0.90, 0.90), 300, "kd"),
        ((0.97, 0.99), 100, "kd"),
        ((0.0, 0.5), 100, "labels"),
        ((1.0, 1.0), 100, "kd"),
    ],
)
def test_labels_are_taken_where_a_pilot_clearly_shows_that_they_do_better(
    qualities: tuple[float, float], images: int, best: str
) -> None:
    """Two deviations of the difference: 11.5 points of 30 images, 5.8 of 300 at these shares."""
    assert clearly_best([run("kd", qualities[0]), run("labels", qualities[1])], images) == best


def known(labelled: float, agreement: float | None = 0.9) -> Known:
    return Known(images=1000, labelled=labelled, teacher=0.85, agreement=agreement)


def test_without_labels_the_teacher_alone_is_followed() -> None:
    (only,) = options_for(known(0.0, None))
    assert only.recipe == "soft" and "no training image has a label" in only.reason


@pytest.mark.parametrize("labelled", [0.05, 0.7, 1.0])
def test_with_labels_a_pilot_decides_whether_the_teacher_helps(labelled: float) -> None:
    options = options_for(known(labelled))
    assert [option.recipe for option in options] == ["kd", "labels"]
    assert all(option.recipe in RECIPES for option in options)
    assert "85.0% of the validation split" in options[0].reason
    assert ("950 images that have no label" in options[0].reason) == (labelled == 0.05)


def test_a_teacher_that_repeats_the_labels_is_told() -> None:
    assert "repeats the labels" in options_for(known(1.0, 0.995))[0].reason
    assert "says more of the training images" in options_for(known(1.0, 0.9))[0].reason


@pytest.mark.parametrize(("error", "recipe"), [(None, "kd"), (0.01, "kd"), (0.2, "soft")])
def test_a_tail_that_is_not_kept_is_not_learnt_at_a_temperature(error: float | None, recipe: str) -> None:
    options = options_for(Known(images=1000, labelled=1.0, teacher=0.85, agreement=0.9, error=error))
    assert [option.recipe for option in options] == [recipe, "labels"]
    assert ("an error of 20.0%" in options[0].reason) == (recipe == "soft")
