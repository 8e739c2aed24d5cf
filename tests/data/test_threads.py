from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from edgedistill.base.progress import Event, StageAdvanced, StageFinished, StageStarted
from edgedistill.data import threads
from edgedistill.data.threads import in_threads, told_if_slow


def test_results_come_in_the_order_of_the_items() -> None:
    done: list[int] = []
    assert list(in_threads(lambda item: item * item, range(100), done.append)) == [item * item for item in range(100)]
    assert done == [16, 32, 48, 64, 80, 96, 100]
    assert list(in_threads(str, [], done.append)) == []


def test_what_the_work_raises_passes_and_the_rest_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cpus", lambda: 1)
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 20:
            raise KeyboardInterrupt
        time.sleep(0.001)
        return item

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(work, range(10_000), lambda done: None))
    assert len(begun) < 10_000


def test_what_is_quick_is_not_told() -> None:
    heard: list[Event] = []
    with told_if_slow(heard.append, "hash", "photos", 3) as advance:
        for done in range(3):
            advance(done)
    assert heard == []


def test_what_takes_long_is_told_from_its_begin_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: now[0]))
    heard: list[Event] = []
    with told_if_slow(heard.append, "hash", "photos", 50) as advance:
        for done in range(50):
            now[0] += 0.1
            advance(done)
    assert heard[0] == StageStarted("hash", "photos", 50)
    steps = [event for event in heard if isinstance(event, StageAdvanced)]
    assert 5 <= len(steps) <= 8, "from 2 s on, twice a second"
    assert all(step.stage == "hash" and step.total == 50 for step in steps)
    assert isinstance(heard[-1], StageFinished) and heard[-1].seconds == pytest.approx(5)
    assert len(heard) == len(steps) + 2
