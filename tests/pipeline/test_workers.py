"""How tasks are handed out, and what becomes of worker processes when the build's own ends."""

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

from edgedistill.base.errors import TrialFailure, UnreachableError
from edgedistill.base.progress import Event, Note, silent
from edgedistill.pipeline import workers
from edgedistill.pipeline.workers import LabelTask, Result, Task, do_all

CONFIG: Any = None


def tasks(count: int) -> list[LabelTask]:
    here = Path()
    return [
        LabelTask(config=CONFIG, target=CONFIG, base=here, root=here, views=CONFIG, view=view, logits_key="")
        for view in range(count)
    ]


class Recorded:
    """An executor that finds some views in the hands of another process until it waits for them."""

    def __init__(self, busy: set[int]) -> None:
        self.busy = busy
        self.batches: list[list[tuple[int, bool]]] = []

    def run(self, tasks: Sequence[Task[Any]]) -> Iterator[tuple[int, Result[Any]]]:
        views = [task.view for task in tasks if isinstance(task, LabelTask)]
        self.batches.append([(view, task.wait) for view, task in zip(views, tasks, strict=True)])
        for number, (view, task) in reversed(list(enumerate(zip(views, tasks, strict=True)))):
            yield number, None if view in self.busy and not task.wait else Path(str(view))


def test_what_another_process_is_at_is_waited_for_last() -> None:
    executor = Recorded({1})
    assert list(do_all(executor, tasks(3))) == [(2, Path("2")), (0, Path("0")), (1, Path("1"))]
    assert executor.batches == [[(0, False), (1, False), (2, False)], [(1, True)]]


@pytest.mark.parametrize("count", [0, 2])
def test_an_executor_is_not_started_for_nothing(count: int) -> None:
    """On Ray each batch begins a process and, where no cluster is named, a cluster."""
    executor = Recorded(set())
    assert len(list(do_all(executor, tasks(count)))) == count
    assert len(executor.batches) == (count > 0)


@pytest.mark.slow
def test_no_other_goes_on_after_the_last_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "do_apart", dying.die)
    heard: list[Event] = []
    ((number, result),) = workers.Processes(1, heard.append).run(tasks(1))
    assert number == 0 and isinstance(result, TrialFailure)
    assert result.message == "3 worker processes died at the labelling of view 1"
    assert heard == [Note("a worker died at the labelling of view 1: another goes on from there", warning=True)] * 2


@pytest.mark.slow
def test_the_death_of_rays_client_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ray_begin", dying.die)
    with pytest.raises(UnreachableError, match="client of Ray died") as caught:
        list(workers.OnRay(silent).run(tasks(1)))
    assert "the same command" in caught.value.fix


@pytest.mark.slow
def test_a_bug_in_a_task_of_ray_keeps_its_traceback() -> None:
    """Here of a task that has no build."""
    pytest.importorskip("ray")
    with pytest.raises(RuntimeError, match=r"(?s)the labelling of view 1.*in _bench.*AttributeError"):
        list(workers.OnRay(silent).run(tasks(1)))


# A build with a worker that is starting, idle, or at something that takes longer than the test.
BUILD = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
from edgedistill.pipeline.workers import _CONTEXT, _submitted, _worker
worker = _worker(_CONTEXT.Event())
try:
    begun = _submitted(worker, os.getpid)
    (number,) = worker._processes if sys.argv[1] == "starting" else (begun.result(),)
    print(number, flush=True)
    if sys.argv[1] == "busy":
        _submitted(worker, time.sleep, 60).result()
    time.sleep(60)
except KeyboardInterrupt:
    worker.shutdown()
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
from edgedistill.base.progress import silent
workers.do_apart = dying.sleep
root = Path(sys.argv[1])
task = workers.LabelTask(config=None, target=None, base=root, root=root, views=None, view=0, logits_key="")
try:
    list(workers.Processes(1, silent).run([task]))
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
