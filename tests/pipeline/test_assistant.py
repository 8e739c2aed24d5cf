"""Which assistants are tried, and when students learn from one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedistill.base.errors import TrialFailure
from edgedistill.documents.results import AssistantChoice, PilotRun
from edgedistill.pipeline import assistant
from edgedistill.pipeline.assistant import LARGE_GAP, TRIED, assisted, between

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 400)


def candidate(work: int) -> Any:
    return SimpleNamespace(multiply_adds=work, spec=SimpleNamespace(label=f"s{work}"))


CANDIDATES: list[Any] = [candidate(work) for work in SIZES]


def labels_of(found: list[Any]) -> list[str]:
    return [one.spec.label for one in found]


def test_they_lie_between_and_are_spread_by_size() -> None:
    found = labels_of(between(CANDIDATES, 2, 200))
    assert found == ["s5", "s20", "s50"] and len(found) == TRIED
    assert labels_of(between(CANDIDATES, 30, 60)) == ["s50"]
    assert between(CANDIDATES, 500, 1000) == []


class Pilots:
    """Trains what is asked for, as well as `qualities` says; images are answered rightly from the first on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, qualities: dict[str, float], through: float) -> None:
        self.asked: list[tuple[str, int]] = []
        self.heard: list[Any] = []

        def trained_for(bench: Any, stored: Any, spec: Any, epochs: int) -> Any:
            self.asked.append((spec.label, epochs))
            quality = through if stored.signals else qualities[spec.label]
            if np.isnan(quality):
                raise TrialFailure("diverged")
            return SimpleNamespace(spec=spec, quality_validation=quality)

        def judged(bench: Any, stored: Any, spec: Any, what: str) -> Any:
            try:
                quality = trained_for(bench, stored, spec, bench.pilot_epochs).quality_validation
            except TrialFailure:
                return None
            run = PilotRun(recipe="kd", student=spec.label, epochs=bench.pilot_epochs, quality_validation=quality)
            return SimpleNamespace(run=run, right=np.arange(100) < 100 * quality)

        monkeypatch.setattr(assistant, "trained_for", trained_for)
        monkeypatch.setattr(assistant, "judged", judged)
        monkeypatch.setattr(assistant, "replace", lambda stored, signals: SimpleNamespace(signals=signals))
        monkeypatch.setattr(assistant, "all_signals", lambda bench, views: (bench,))
        monkeypatch.setattr(assistant, "bench_taught_by", lambda bench, trained: trained.spec.label)

    def run(self, wanted: bool | str = "auto", teacher: int = 400) -> tuple[Any, Any]:
        train = SimpleNamespace(recipe="kd", assistant=wanted)
        bench: Any = SimpleNamespace(
            config=SimpleNamespace(train=train),
            pilot_epochs=2,
            rungs=(1, 2, 8),
            store=SimpleNamespace(listener=self.heard.append),
        )
        stored: Any = SimpleNamespace(signals=(), stored_views=None)
        return assisted(bench, stored, CANDIDATES[0], CANDIDATES, teacher, 0.9)


QUALITIES = dict.fromkeys((f"s{work}" for work in SIZES), 0.6) | {"s1": 0.5, "s20": 0.85, "s50": 0.86}


def test_the_one_that_loses_least_for_its_size_teaches_where_that_clearly_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """s20 loses 5 points for a twentieth of the teacher's work, s50 4 points for an eighth."""
    pilots = Pilots(monkeypatch, QUALITIES | {"s50": 0.855}, through=0.7)
    stored, choice = pilots.run()
    assert choice.assistant == "s50" and choice.taken and stored.signals == ("s50",)
    pilots = Pilots(monkeypatch, QUALITIES | {"s50": 0.851}, through=0.7)
    assert pilots.run()[1].assistant == "s20"
    assert pilots.asked == [("s5", 2), ("s20", 2), ("s50", 2), ("s20", 8), ("s1", 2), ("s1", 2)]


@pytest.mark.parametrize(("through", "taken"), [(0.5, False), (0.54, False), (0.55, True)])
def test_a_difference_that_may_be_chance_leaves_the_teacher(
    monkeypatch: pytest.MonkeyPatch, through: float, taken: bool
) -> None:
    pilots = Pilots(monkeypatch, QUALITIES, through=through)
    stored, choice = pilots.run()
    assert choice.taken is taken and bool(stored.signals) is taken
    assert (f"learn from {'the assistant' if taken else 'the teacher, not from'}") in pilots.heard[0].text


@pytest.mark.parametrize(("images", "where"), [(None, "on the validation split"), (1240, "over 1,240 images")])
def test_the_sentence_says_which_images_judged(images: int | None, where: str) -> None:
    run = PilotRun(recipe="kd", student="s1", epochs=2, quality_validation=0.5, images=images)
    choice = AssistantChoice(
        assistant="s20", quality_validation=0.8, tried=(run,), direct=run, through=run, taken=False
    )
    assert f"came {'in cross-validation ' if images else ''}{where} to 50.0% from it" in choice.sentence


def test_a_small_gap_is_left_alone_unless_an_assistant_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    pilots = Pilots(monkeypatch, QUALITIES, through=0.7)
    near = round(LARGE_GAP) - 1
    assert pilots.run(teacher=near)[1] is None and pilots.run(False)[1] is None and not pilots.asked
    assert pilots.run(True, teacher=near)[1] is not None


def test_a_training_that_fails_leaves_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = dict.fromkeys(QUALITIES, np.nan)
    assert Pilots(monkeypatch, nothing, through=0.7).run()[1] is None
    assert Pilots(monkeypatch, QUALITIES, through=np.nan).run()[1] is None
