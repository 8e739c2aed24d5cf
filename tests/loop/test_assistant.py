"""A build that tries whether students learn more from an assistant."""

from __future__ import annotations

from typing import Any

from edgedistill.base.progress import StageFinished

EDITS = (
    ('recipe = "kd"\n', 'recipe = "kd"\nassistant = true\n'),
    ("channels = [32, 64, 96, 128]", "channels = [128, 192, 256, 384]"),
    ('families = ["mobilenetv4", "resnet"]', 'families = ["mobilenetv4"]'),
    ("widths = [0.25, 0.5]", "widths = [0.125, 0.25, 0.4]"),
    ("resolutions = [8, 16]", "resolutions = [8]"),
    ("epochs = 2", "epochs = 1"),
    ("limit = 320", "limit = 200"),
    ("candidates = 3", "candidates = 1"),
    ("probes = 3", "probes = 2"),
)


def test_one_is_tried_told_and_kept(loop: Any) -> None:
    """A worker loads it as it loads a teacher, and it labels the same views."""
    built = loop.build(loop.write("assistant", "1000ms", *EDITS))
    assert built.result.status == "met", built.result.verdict
    choice = built.result.recipe.assistant
    assert choice.assistant in {run.student for run in choice.tried}
    assert choice.direct.student == choice.through.student not in {run.student for run in choice.tried}
    assert choice.sentence in built.notes
    assert choice.sentence in (built.out / "report.html").read_text()
    done = [event.stage for event in built.events if isinstance(event, StageFinished) and not event.reused]
    assert done.count("signals") >= 1 and done.count("views") <= 1

    again = loop.build(built.path)
    assert {event.stage for event in again.events if isinstance(event, StageFinished) and not event.reused} == set()
    assert again.result.recipe == built.result.recipe
