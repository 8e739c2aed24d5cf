"""A build that compares recipes and finalists by cross-validation."""

from __future__ import annotations

from typing import Any

import pytest

from edgedistill.base.intervals import unpack


@pytest.fixture(scope="session")
def built(loop: Any) -> Any:
    """On views of its own: the cache is that of other builds too, which count what they label."""
    edits = [
        *loop.few,
        ("views = 2", "views = 1"),
        ('recipe = "kd"\n', ""),
        ("rungs = [1, 2]\n", "rungs = [1, 2]\nfolds = 2\n"),
    ]
    return loop.build(loop.write("folds", "1000ms", *edits))


def test_all_images_judge_the_recipes_and_the_finalists(loop: Any, built: Any) -> None:
    images = built.result.data.train + built.result.data.validation
    assert built.result.data.train == 320 and images > 480
    assert len(built.result.recipe.pilot) >= 2
    for run in built.result.recipe.pilot:
        assert run.images == images
        assert (run.quality_validation * images) == pytest.approx(round(run.quality_validation * images))
        # Halves that differ by a few images of a class.
        assert len(run.part_qualities) == 2
        assert sum(run.part_qualities) / 2 == pytest.approx(run.quality_validation, abs=0.02)
    finished = [trial for trial in built.result.trials if trial.state == "complete"]
    assert finished
    for trial in finished:
        assert trial.crossed is not None
        for scheme in trial.schemes:
            assert scheme.crossed == trial.crossed and scheme.crossed.folds == 2 and scheme.crossed.images == images
            right = unpack(scheme.crossed.right, images)
            assert sum(right) / images == pytest.approx(scheme.crossed.quality)
            assert sum(scheme.crossed.part_qualities) / 2 == pytest.approx(scheme.crossed.quality, abs=0.02)
    assert any(f"of {images} images in cross-validation of 2 parts" in note for note in built.notes)
    assert "in cross-validation over" in built.result.recipe.reasons[-1]
    stages = [stage.stage for stage in loop.done(built.path)]
    assert stages.count("fold") == 2 * len(built.result.recipe.pilot)


def test_a_second_build_trains_nothing(loop: Any, built: Any) -> None:
    before = len(loop.done(built.path))
    again = loop.build(built.path)
    assert len(loop.done(built.path)) == before
    assert again.result.trials == built.result.trials
