"""A build that learns from two teachers, each fitted, together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.progress import StageFinished
from edgedistill.cli.app import run
from edgedistill.commands.build import plan
from edgedistill.commands.views import _opened

SECOND = """
[[teachers]]
model = "timm:resnet10t"
resolution = 8
arguments = { channels = [16, 16, 32, 32], stem_type = "" }
fit = { epochs = 3, batch_size = 64 }

[ensemble]
weights = "fitted"
drop = 0.25

[data]
"""


@pytest.fixture(scope="session")
def built(loop: Any) -> Any:
    return loop.build(loop.write("two-teachers", "1000ms", ("\n[data]\n", SECOND), *loop.few))


def test_it_says_what_they_get_right_together_and_ships(built: Any) -> None:
    result = built.result
    assert result.status == "met", result.verdict
    first, second = result.teacher.ensemble
    assert (first.name, second.name) == ("timm:resnet10t",) * 2
    assert first.quality_validation == pytest.approx(result.teacher.quality_validation)
    assert first.weight + second.weight == pytest.approx(1)
    assert 0 <= result.teacher.ensemble_quality_validation <= 1
    assert any("2 teachers together get" in note for note in result.notes)
    assert any("2 teachers together get" in note for note in built.notes)
    assert "teachers together" in (built.out / "package" / "MODEL_CARD.md").read_text()
    assert "2 teachers together" in (built.out / "report.html").read_text()


def test_each_teacher_is_fitted_and_asked_once(built: Any) -> None:
    """The first one may have been at it for another test of this folder."""
    done = [event.stage for event in built.events if isinstance(event, StageFinished) and not event.reused]
    assert 1 <= done.count("teacher") <= 2 and 1 <= done.count("signals") <= 2 and done.count("ensemble") == 1


def test_another_share_that_is_left_out_asks_no_teacher_again(loop: Any, built: Any) -> None:
    text = built.path.read_text()
    try:
        built.path.write_text(text.replace("drop = 0.25", "drop = 0.5"))
        again = loop.build(built.path)
    finally:
        built.path.write_text(text)
    done = {event.stage for event in again.events if isinstance(event, StageFinished) and not event.reused}
    assert not done & {"teacher", "signal", "signals", "ensemble"} and "train" in done


def test_views_and_plan_tell_of_both(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    planned = plan(built.path)
    assert [teacher.resolution for teacher in (planned.teacher, *planned.teachers)] == [16, 8]
    for command in ("info", "check"):
        assert run(["views", command, str(built.path)]) == 0
        assert capsys.readouterr().out.count("logits") >= 2


def test_what_is_wrong_with_a_further_teacher_names_its_table(loop: Any) -> None:
    absent = SECOND.replace("timm:resnet10t", "timm:resnet10q")
    with pytest.raises(InputError, match=r"\[\[teachers\]\] 1 model: timm has no model 'resnet10q'"):
        plan(loop.write("absent-teacher", "1000ms", ("\n[data]\n", absent)))
    wrong = SECOND.replace("channels = [16, 16, 32, 32]", "channels = [16]")
    with pytest.raises(InputError, match="fails on an image") as caught:
        plan(loop.write("wrong-teacher", "1000ms", ("\n[data]\n", wrong)))
    assert "set resolution in [[teachers]] 1" in caught.value.fix


def test_students_learn_their_mean(built: Any) -> None:
    _, stored = _opened(built.path, None, lambda event: None)
    (mixed,) = stored.signals
    positions = np.arange(mixed.images, dtype=np.int64)
    one, two = (part.at(0, positions).argmax(1) for part in mixed.parts)
    together = mixed.at(0, positions).argmax(1)
    assert (one != two).any(), "two teachers that say the same would show nothing"
    agreed = one == two
    assert (together[agreed] == one[agreed]).mean() > 0.95
