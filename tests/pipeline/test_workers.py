"""How items are handed out, and what becomes of worker processes when the build's own ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dying
import pytest

from edgedistill.base.errors import InputError, TrialFailure, UnreachableError
from edgedistill.base.isolation import ChildBug
from edgedistill.base.processes import Worker, WorkerDied
from edgedistill.base.progress import Event, Note, silent
from edgedistill.networks.threads import own_threads
from edgedistill.pipeline import on_ray, workers
from edgedistill.pipeline.work import LabelItem, do_all
from edgedistill.pipeline.workbench import Place, Result, WorkItem

CONFIG: Any = None


def items(count: int) -> list[LabelItem]:
    here = Path()
    return [
        LabelItem(place=Place(CONFIG, CONFIG, here, here, CONFIG), views=CONFIG, view=view, signal_keys={})
        for view in range(count)
    ]


class Recorded:
    """An executor that finds some views in the hands of another process until it waits for them."""

    def __init__(self, busy: set[int]) -> None:
        self.busy = busy
        self.batches: list[list[tuple[int, bool]]] = []

    def run(self, items: Sequence[WorkItem[Any]]) -> Iterator[tuple[int, Result[Any]]]:
        views = [item.view for item in items if isinstance(item, LabelItem)]
        self.batches.append([(view, item.wait) for view, item in zip(views, items, strict=True)])
        for number, (view, item) in reversed(list(enumerate(zip(views, items, strict=True)))):
            yield number, None if view in self.busy and not item.wait else Path(str(view))


def test_what_another_process_is_at_is_waited_for_last() -> None:
    executor = Recorded({1})
    assert list(do_all(executor, items(3))) == [(2, Path("2")), (0, Path("0")), (1, Path("1"))]
    assert executor.batches == [[(0, False), (1, False), (2, False)], [(1, True)]]


@pytest.mark.parametrize("count", [0, 2])
def test_an_executor_is_not_started_for_nothing(count: int) -> None:
    """On Ray each batch begins a process and, where no cluster is named, a cluster."""
    executor = Recorded(set())
    assert len(list(do_all(executor, items(count)))) == count
    assert len(executor.batches) == (count > 0)


@pytest.mark.slow
def test_a_crash_is_a_failed_trial_after_three_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "do_apart", dying.crash)
    heard: list[Event] = []
    with workers.Processes(1, heard.append) as executor:
        ((number, result),) = executor.run(items(1))
    assert number == 0 and isinstance(result, TrialFailure)
    assert result.message == "its process was ended by SIGSEGV, 3 times"
    text = "the labelling of view 1: its process was ended by SIGSEGV; another goes on from there"
    assert heard == [Note(text, warning=True)] * 2


def test_a_worker_answers_tells_and_raises() -> None:
    worker, heard = Worker(), list[Event]()
    try:
        own = worker.call(dying.own_id)
        assert own != os.getpid()
        assert worker.call(dying.echo, {"a": [1]}, listener=heard.append) == {"a": [1]} and heard == [Note("heard")]
        with pytest.raises(InputError, match="wrong") as caught:
            worker.call(dying.fail, InputError("wrong", fix="mend it"))
        assert caught.value.fix == "mend it"
        with pytest.raises(ChildBug, match=r"(?s)in fail.*KeyError: 'a'"):
            worker.call(dying.fail, KeyError("a"))
        assert worker.call(dying.own_id) == own, "none of them ended it"
        with pytest.raises(WorkerDied, match="ended by SIGKILL, most often out of memory"):
            worker.call(dying.die)
    finally:
        worker.end()
    assert not alive(own)


def test_a_worker_may_have_children() -> None:
    """Loaders of data are some."""
    worker = Worker()
    try:
        assert worker.call(dying.child_answers) == 7
    finally:
        worker.end()


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    """Most scripts of users have none."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('begun')\nimport dying\nfrom edgedistill.base.processes import Worker\n"
        "print(Worker().call(dying.echo, 'heard'))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.check_output([sys.executable, script], env=environment, timeout=60, text=True)
    assert output.split() == ["begun", "heard"]


def test_a_process_that_trains_loads_nothing_that_only_the_search_needs() -> None:
    """Each build begins such a process, and waits while it imports."""
    code = (
        "import sys, edgedistill.pipeline.workers; print({'pandas', 'scipy', 'sklearn', 'optuna'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_worker_that_is_forgotten_does_not_hold_its_build_up() -> None:
    code = "import dying; from edgedistill.base.processes import Worker; Worker().call(dying.own_id)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False).returncode == 0


def test_a_worker_that_died_while_it_waited_is_told_at_the_next_call() -> None:
    worker = Worker()
    os.kill(worker.call(dying.own_id), signal.SIGKILL)
    with pytest.raises(WorkerDied):
        worker.call(dying.own_id)


def test_workers_share_the_processors_that_a_container_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "do_apart", dying.threads_given)
    monkeypatch.setattr(workers, "usable_cpus", lambda: 3)
    with own_threads(8), workers.Processes(2, silent) as executor:
        assert list(executor.run(items(1))) == [(0, 3)]
        assert sorted(executor.run(items(2))) == [(0, 1), (1, 1)]


@pytest.mark.slow
def test_workers_wait_between_batches_and_end_with_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "do_apart", dying.task_id)
    with workers.Processes(2, silent) as executor:
        first = dict(executor.run(items(4)))
        again = dict(executor.run(items(2)))
        assert len(set(first.values())) == 2 and set(again.values()) == set(first.values())
        assert all(alive(one) for one in set(first.values()))
    assert not any(alive(one) for one in set(first.values()))


@pytest.mark.slow
def test_the_death_of_rays_client_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "begin", dying.die)
    with pytest.raises(UnreachableError, match="client of Ray died") as caught:
        list(on_ray.OnRay(silent).run(items(1)))
    assert "the same command" in caught.value.fix


def test_ray_and_several_processes_a_student_are_one_too_many() -> None:
    with pytest.raises(InputError, match="processes = 2 and --executor ray are both there"):
        on_ray.check_ray(2)


@pytest.mark.slow
def test_a_bug_in_a_task_of_ray_keeps_its_traceback() -> None:
    """Here of an item that has no build."""
    pytest.importorskip("ray")
    with pytest.raises(RuntimeError, match=r"(?s)the labelling of view 1.*in _bench.*AttributeError"):
        list(on_ray.OnRay(silent).run(items(1)))


# A build with a worker that is starting, idle, or at something that takes longer than the test.
BUILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
import dying
from edgedistill.base.processes import Worker
worker = Worker()
try:
    print(worker.process_id if sys.argv[1] == "starting" else worker.call(dying.own_id), flush=True)
    if sys.argv[1] == "busy":
        worker.call(dying.wait, 60)
    time.sleep(60)
except KeyboardInterrupt:
    worker.interrupt()
    sys.exit(130)
"""


@dataclass(frozen=True)
class Build:
    """The build's process, in a group with its worker; the worker's id; and what both write to stderr."""

    process: subprocess.Popen[str]
    worker: int
    complaints: Path


@pytest.fixture(
    params=[pytest.param("starting", marks=pytest.mark.slow), "idle", pytest.param("busy", marks=pytest.mark.slow)]
)
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Build]:
    complaints = tmp_path / "stderr"
    with complaints.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", BUILD, request.param],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    time.sleep(0.3)
    yield Build(process, worker, complaints)
    process.kill()
    process.wait()
    process.stdout.close()
    if alive(worker):
        os.kill(worker, signal.SIGKILL)


# A build whose own process is told to end, as by `kill`, while its workers hear nothing.
BATCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
import dying
from edgedistill.pipeline import workers
from edgedistill.pipeline.work import LabelItem
from edgedistill.pipeline.workbench import Place
from edgedistill.base.progress import silent
workers.do_apart = dying.sleep
root = Path(sys.argv[1])
item = LabelItem(place=Place(None, None, root, root, None), views=None, view=0, signal_keys={})
try:
    with workers.Processes(1, silent) as executor:
        list(executor.run([item]))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.slow
def test_a_build_that_is_interrupted_does_not_wait_for_what_its_workers_are_at(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BATCH, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    finally:
        process.kill()
        process.wait()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def gone_within(process: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while alive(process) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(process)


def test_a_worker_ends_with_the_build_that_is_killed(build: Build) -> None:
    build.process.kill()
    build.process.wait()
    assert gone_within(build.worker, 20)


def test_an_interrupt_ends_workers_without_a_word(build: Build) -> None:
    os.killpg(build.process.pid, signal.SIGINT)
    assert build.process.wait(timeout=30) == 130
    assert build.complaints.read_text() == ""
    assert gone_within(build.worker, 10)
