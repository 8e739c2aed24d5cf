"""The study: trials in Optuna's journal, found again under their numbers by a build that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from edgedistill.base.errors import InputError
from edgedistill.base.progress import silent
from edgedistill.base.store import lock
from edgedistill.documents.specs import StudentSpec
from edgedistill.selection.study import Study, drop_torn_line
from edgedistill.selection.warm_start import Known, KnownCurve

JOURNAL = "study.journal"
SPECS = [
    StudentSpec(family=family, width=width, depth=1.0, resolution=16) for family in ("a", "b") for width in (0.25, 0.5)
]


def opened(folder: Path, name: str = "build") -> optuna.Study:
    """The study as Optuna's own tools open it."""
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))))


def test_trials_are_numbered_in_the_order_asked(tmp_path: Path) -> None:
    study = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    assert [study.ask(spec) for spec in SPECS[:3]] == [0, 1, 2]
    assert [t.params for t in opened(tmp_path).trials] == [spec.model_dump() for spec in SPECS[:3]]


def test_what_is_told_is_in_the_journal(tmp_path: Path) -> None:
    study = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    numbers = [study.ask(spec) for spec in SPECS]
    study.report(0, epochs=4, quality=0.8)
    study.report(0, epochs=8, quality=0.9)
    study.tell(0, "complete", quality=0.9, reason="proven", latency_ms={"d": 1.5})
    study.tell(1, "over_budget", quality=0.7, reason="too slow", latency_ms={"d": 9.0})
    study.tell(2, "pruned", quality=0.6, reason="less accurate", latency_ms={})
    study.tell(3, "failed", quality=None, reason="diverged", latency_ms={})
    trials = opened(tmp_path).trials
    assert [t.number for t in trials] == numbers
    assert [t.params for t in trials] == [spec.model_dump() for spec in SPECS]
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].intermediate_values == {4: 0.8, 8: 0.9}
    assert trials[0].value == 0.9
    assert [t.user_attrs["reason"] for t in trials] == ["proven", "too slow", "less accurate", "diverged"]
    assert [t.user_attrs["latency_ms"] for t in trials] == [{"d": 1.5}, {"d": 9.0}, {}, {}]
    assert opened(tmp_path).best_params == SPECS[0].model_dump()


def test_a_build_that_goes_on_finds_its_trials(tmp_path: Path) -> None:
    first = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    first.ask(SPECS[0])
    first.report(0, epochs=4, quality=0.8)
    first.tell(0, "complete", quality=0.8, reason="proven", latency_ms={"d": 1.0})
    first.ask(SPECS[1])
    first.report(1, epochs=4, quality=0.5)

    second = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    assert [second.ask(spec) for spec in SPECS[:3]] == [0, 1, 2]
    # What was told stays as it is, what was under way goes on.
    second.report(0, epochs=4, quality=0.1)
    second.tell(0, "failed", quality=None, reason="told again", latency_ms={})
    second.report(1, epochs=4, quality=0.5)
    second.report(1, epochs=8, quality=0.6)
    second.tell(1, "pruned", quality=0.6, reason="less accurate", latency_ms={})
    trials = opened(tmp_path).trials
    assert len(trials) == 3
    assert (trials[0].state, trials[0].user_attrs["reason"]) == (TrialState.COMPLETE, "proven")
    assert trials[0].intermediate_values == {4: 0.8}
    assert (trials[1].state, trials[1].intermediate_values) == (TrialState.PRUNED, {4: 0.5, 8: 0.6})


def test_builds_of_other_inputs_stay_apart(tmp_path: Path) -> None:
    assert Study(tmp_path / JOURNAL, "one", SPECS, tmp_path / "turn").ask(SPECS[1]) == 0
    assert Study(tmp_path / JOURNAL, "two", SPECS, tmp_path / "turn").ask(SPECS[2]) == 0
    assert [t.params for t in opened(tmp_path, "one").trials] == [SPECS[1].model_dump()]
    assert [t.params for t in opened(tmp_path, "two").trials] == [SPECS[2].model_dump()]


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_a_torn_last_line_is_dropped(tmp_path: Path, keep: int) -> None:
    study = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    study.ask(SPECS[0])
    study.tell(0, "complete", quality=0.8, reason="proven", latency_ms={"d": 1.0})
    before = [t.params for t in opened(tmp_path).trials]
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(whole + lines[-1][:keep])

    again = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    assert journal.read_bytes().startswith(whole + b"{")
    assert again.ask(SPECS[0]) == 0
    assert again.ask(SPECS[1]) == 1
    assert [t.params for t in opened(tmp_path).trials] == [*before, SPECS[1].model_dump()]
    assert all(isinstance(json.loads(line), dict) for line in journal.read_text().splitlines())


def test_a_journal_torn_in_its_first_line_is_empty(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"op_code": 0, "wor')
    assert Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn").ask(SPECS[0]) == 0


def test_a_line_that_another_process_is_writing_is_not_torn(tmp_path: Path) -> None:
    study = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    study.ask(SPECS[0])
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    opening = threading.Thread(target=Study, args=(journal, "other", SPECS, tmp_path / "another turn"), daemon=True)
    with lock(tmp_path / f"{JOURNAL}.flock", silent, "the study"):
        with journal.open("ab") as stream:
            stream.write(b'{"op_code": ')
        opening.start()
        opening.join(1.0)
        assert journal.read_bytes() == whole + b'{"op_code": '
        journal.write_bytes(whole)
    opening.join(30)
    assert not opening.is_alive() and len(opened(tmp_path).trials) == 1


def test_a_line_that_a_killed_neighbour_left_torn_is_dropped_before_the_next(tmp_path: Path) -> None:
    study = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    study.ask(SPECS[0])
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(b'{"op_code": ')
    assert study.ask(SPECS[1]) == 1
    assert [t.params for t in opened(tmp_path).trials] == [spec.model_dump() for spec in SPECS[:2]]


def test_a_trial_is_begun_whole_or_not_at_all_and_taken_up_by_the_next_process(tmp_path: Path) -> None:
    first = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    before = (tmp_path / JOURNAL).read_bytes()
    first.ask(SPECS[0])
    (line,) = (tmp_path / JOURNAL).read_bytes().removeprefix(before).splitlines()
    assert json.loads(line)["params"].keys() == SPECS[0].model_dump().keys()
    second = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    assert [second.ask(spec) for spec in SPECS[:2]] == [0, 1]
    second.tell(0, "complete", quality=0.8, reason="proven", latency_ms={})
    trials = opened(tmp_path).trials
    assert [t.params for t in trials] == [spec.model_dump() for spec in SPECS[:2]]
    assert trials[0].state is TrialState.COMPLETE


def test_a_whole_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    drop_torn_line(path)
    assert not path.exists()
    for content in (b"", b"{}\n", b"{}\n[]\n"):
        path.write_bytes(content)
        drop_torn_line(path)
        assert path.read_bytes() == content


def test_two_processes_that_share_a_journal_number_one_student_once(tmp_path: Path) -> None:
    ours, theirs = (Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn") for _ in range(2))
    assert [ours.ask(SPECS[0]), theirs.ask(SPECS[0]), theirs.ask(SPECS[1]), ours.ask(SPECS[1])] == [0, 0, 1, 1]
    ours.report(0, epochs=4, quality=0.8)
    theirs.report(0, epochs=4, quality=0.8)
    ours.tell(0, "complete", quality=0.8, reason="proven", latency_ms={"d": 1.0})
    theirs.tell(0, "pruned", quality=0.8, reason="later", latency_ms={"d": 1.0})
    (first, second) = opened(tmp_path).trials
    assert (first.state, first.user_attrs["reason"]) == (TrialState.COMPLETE, "proven")
    assert not second.state.is_finished()


def test_a_database_serves_as_well(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = Study(url, "build", SPECS, tmp_path / "turn")
    assert [study.ask(spec) for spec in SPECS[:2]] == [0, 1]
    study.tell(1, "complete", quality=0.9, reason="proven", latency_ms={"d": 2.0})
    again = Study(url, "build", SPECS, tmp_path / "turn")
    assert again.ask(SPECS[1]) == 1
    assert optuna.load_study(study_name="build", storage=url).best_trial.number == 1


def test_a_database_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened") as caught:
        Study(f"sqlite:///{tmp_path / 'no' / 'study.db'}", "build", SPECS, tmp_path / "turn")
    assert "journal" in (caught.value.fix or "")


def test_what_was_known_at_the_beginning_is_remembered(tmp_path: Path) -> None:
    first = Known(curves=(KnownCurve(spec=SPECS[0], quality={4: 0.5}),), sources=("one student",))
    study = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    assert study.known(lambda: first) == first
    again = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    assert again.known(lambda: Known()) == first, "what came later does not change a search that goes on"


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal\n"
        "from edgedistill.selection.study import Study\n"
        "from edgedistill.documents.specs import StudentSpec\n"
        "spec = StudentSpec(family='a', width=0.25, depth=1.0, resolution=16)\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        f"study = Study(folder / '{JOURNAL}', 'build', [spec], folder / 'turn')\n"
        "study._my_turn().__enter__()\n"
        "study._study._storage._backend._lock.acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    study = Study(tmp_path / JOURNAL, "build", SPECS, tmp_path / "turn")
    assert study.ask(SPECS[0]) == 0
