"""A build that tries whether students learn more from an assistant."""

from __future__ import annotations

from typing import Any

import pytest

from edgedistill.base.progress import StageFinished

EDITS = (
    ('recipe = "kd"\n', 'recipe = "kd"\nassistant = true\n'),
    ("channels = [32, 64, 96, 128]", "channels = [128, 192, 256, 384]"),
    ('families = ["mobilenetv4", "resnet"]', 'families = ["mobilenetv4"]'),
    ("widths = [0.25, 0.5]", "widths = [0.125, 0.25, 0.4]"),
    ("resolutions = [8, 16]", "resolutions = [8]"),
    ("candidates = 3", "candidates = 1"),
    ("probes = 3", "probes = 2"),
)


@pytest.fixture(scope="module")
def built(loop: Any) -> Any:
    return loop.build(loop.write("assistant", "1000ms", *EDITS))


def test_one_is_tried_and_told(built: Any) -> None:
    assert built.result.status == "met", built.result.verdict
    choice = built.result.recipe.assistant
    assert choice.assistant in {run.student for run in choice.tried}
    assert choice.direct.student == choice.through.student not in {run.student for run in choice.tried}
    assert choice.sentence in built.notes
    assert choice.sentence in (built.out / "report.html").read_text()


def test_it_labels_the_same_views(built: Any) -> None:
    """A worker process loads it as it loads a teacher."""
    done = [event.stage for event in built.events if isinstance(event, StageFinished) and not event.reused]
    assert done.count("signals") >= 1 and done.count("views") <= 1


def test_the_next_build_does_nothing_of_it_again(loop: Any, built: Any) -> None:
    again = loop.build(built.path)
    assert {event.stage for event in again.events if isinstance(event, StageFinished) and not event.reused} == set()
    assert again.result.recipe == built.result.recipe
