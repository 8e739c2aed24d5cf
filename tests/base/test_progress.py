"""What a listener hears of stages."""

from __future__ import annotations

import sys

import pytest

from edgedistill.base.progress import Event, StageFinished, StageStarted, loading, telling


def test_a_stage_that_fails_has_an_end_too() -> None:
    heard: list[Event] = []
    with pytest.raises(ValueError, match="wrong"), telling(heard.append, "load", "a model", 3):
        assert heard == [StageStarted("load", "a model", 3)]
        raise ValueError("wrong")
    (_, end) = heard
    assert isinstance(end, StageFinished) and end.subject == "a model" and not end.reused and end.seconds >= 0


def test_what_is_imported_already_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    monkeypatch.setitem(sys.modules, "torch", object())
    with loading(heard.append):
        pass
    assert not heard
    monkeypatch.delitem(sys.modules, "torch")
    with loading(heard.append):
        pass
    assert [event.subject for event in heard if isinstance(event, StageStarted | StageFinished)] == ["torch", "torch"]
