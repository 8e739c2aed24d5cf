"""The study: trials in Optuna's journal, found again under their numbers by a build that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from edgedistill.search.study import JOURNAL, Study, drop_torn_line
from edgedistill.specs import StudentSpec

SPECS = [
    StudentSpec(family=family, width=width, depth=1.0, resolution=16) for family in ("a", "b") for width in (0.25, 0.5)
]


def opened(folder: Path, name: str = "build") -> optuna.Study:
    """The study as Optuna's own tools open it."""
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))))


def test_trials_are_numbered_in_the_order_asked(tmp_path: Path) -> None:
    study = Study(tmp_path, "build", SPECS)
    assert [study.ask(spec) for spec in SPECS[:3]] == [0, 1, 2]
    assert [t.params for t in opened(tmp_path).trials] == [spec.model_dump() for spec in SPECS[:3]]


def test_what_is_told_is_in_the_journal(tmp_path: Path) -> None:
    study = Study(tmp_path, "build", SPECS)
    numbers = [study.ask(spec) for spec in SPECS]
    study.report(0, epochs=4, accuracy=0.8)
    study.report(0, epochs=8, accuracy=0.9)
    study.tell(0, "complete", accuracy=0.9, reason="proven", latency_ms=1.5)
    study.tell(1, "over_budget", accuracy=0.7, reason="too slow", latency_ms=9.0)
    study.tell(2, "pruned", accuracy=0.6, reason="less accurate", latency_ms=None)
    study.tell(3, "failed", accuracy=None, reason="diverged", latency_ms=None)
    trials = opened(tmp_path).trials
    assert [t.number for t in trials] == numbers
    assert [t.params for t in trials] == [spec.model_dump() for spec in SPECS]
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].intermediate_values == {4: 0.8, 8: 0.9}
    assert trials[0].value == 0.9
    assert [t.user_attrs["reason"] for t in trials] == ["proven", "too slow", "less accurate", "diverged"]
    assert [t.user_attrs["latency_ms"] for t in trials] == [1.5, 9.0, None, None]
    assert opened(tmp_path).best_params == SPECS[0].model_dump()


def test_a_build_that_goes_on_finds_its_trials(tmp_path: Path) -> None:
    first = Study(tmp_path, "build", SPECS)
    first.ask(SPECS[0])
    first.report(0, epochs=4, accuracy=0.8)
    first.tell(0, "complete", accuracy=0.8, reason="proven", latency_ms=1.0)
    first.ask(SPECS[1])
    first.report(1, epochs=4, accuracy=0.5)

    second = Study(tmp_path, "build", SPECS)
    assert [second.ask(spec) for spec in SPECS[:3]] == [0, 1, 2]
    # What was told stays as it is, what was under way goes on.
    second.report(0, epochs=4, accuracy=0.1)
    second.tell(0, "failed", accuracy=None, reason="told again", latency_ms=None)
    second.report(1, epochs=4, accuracy=0.5)
    second.report(1, epochs=8, accuracy=0.6)
    second.tell(1, "pruned", accuracy=0.6, reason="less accurate", latency_ms=None)
    trials = opened(tmp_path).trials
    assert len(trials) == 3
    assert (trials[0].state, trials[0].user_attrs["reason"]) == (TrialState.COMPLETE, "proven")
    assert trials[0].intermediate_values == {4: 0.8}
    assert (trials[1].state, trials[1].intermediate_values) == (TrialState.PRUNED, {4: 0.5, 8: 0.6})


def test_builds_of_other_inputs_stay_apart(tmp_path: Path) -> None:
    assert Study(tmp_path, "one", SPECS).ask(SPECS[1]) == 0
    assert Study(tmp_path, "two", SPECS).ask(SPECS[2]) == 0
    assert [t.params for t in opened(tmp_path, "one").trials] == [SPECS[1].model_dump()]
    assert [t.params for t in opened(tmp_path, "two").trials] == [SPECS[2].model_dump()]


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_a_torn_last_line_is_dropped(tmp_path: Path, keep: int) -> None:
    study = Study(tmp_path, "build", SPECS)
    study.ask(SPECS[0])
    study.tell(0, "complete", accuracy=0.8, reason="proven", latency_ms=1.0)
    before = [t.params for t in opened(tmp_path).trials]
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(whole + lines[-1][:keep])

    again = Study(tmp_path, "build", SPECS)
    assert journal.read_bytes().startswith(whole + b"{")
    assert again.ask(SPECS[0]) == 0
    assert again.ask(SPECS[1]) == 1
    assert [t.params for t in opened(tmp_path).trials] == [*before, SPECS[1].model_dump()]
    assert all(isinstance(json.loads(line), dict) for line in journal.read_text().splitlines())


def test_a_journal_torn_in_its_first_line_is_empty(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"op_code": 0, "wor')
    assert Study(tmp_path, "build", SPECS).ask(SPECS[0]) == 0


def test_a_whole_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    drop_torn_line(path)
    assert not path.exists()
    for content in (b"", b"{}\n", b"{}\n[]\n"):
        path.write_bytes(content)
        drop_torn_line(path)
        assert path.read_bytes() == content
