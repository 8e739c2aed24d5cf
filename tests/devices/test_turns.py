"""Measurements and trainings take turns."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

from edgedistill.base.progress import Event, Note, silent
from edgedistill.devices.turns import measuring, training


def measured(lock_file: Path, heard: list[Event]) -> Thread:
    """A measurement in a thread of its own, which a fault would leave waiting."""

    def measure() -> None:
        with measuring(heard.append, lock_file):
            pass

    running = Thread(target=measure, daemon=True)
    running.start()
    return running


def test_the_lock_may_have_any_name(tmp_path: Path) -> None:
    running = measured(tmp_path / "turn.lock", [])
    running.join(timeout=5)
    assert not running.is_alive()


def test_waiting_for_a_training_tells_of_no_other_process(tmp_path: Path) -> None:
    """Of several that train none is the one that is waited for; the last to measure is surely not."""
    lock_file, heard = tmp_path / "measuring.lock", list[Event]()
    with measuring(silent, lock_file):
        pass
    with training(silent, lock_file):
        running = measured(lock_file, heard)
        until = time.monotonic() + 5
        while not heard and time.monotonic() < until:
            time.sleep(0.01)
        assert running.is_alive()
    running.join(timeout=5)
    assert not running.is_alive()
    assert heard == [Note("waiting for a training on this machine")]
    assert [event.once for event in heard if isinstance(event, Note)] == ["a training on this machine"]
