"""Labelling and training done side by side: in this process, in worker processes, or on a Ray cluster.

A task is plain values, and what it makes is a stage of the cache: any process that does it, with the same cache, leaves
the same folder under the same key, and it is done once. A task that another process is at is put off, so that two builds
that share a cache share the work. A worker that dies leaves its part folder; the task goes on from there in another.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from queue import SimpleQueue
from threading import Thread, main_thread
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeAlias, TypeVar

from edgedistill.base.errors import (
    EdgedistillError,
    InputError,
    MissingDependencyError,
    TrialFailure,
    UnreachableError,
    first_line,
)
from edgedistill.base.machine import allowed_cpus
from edgedistill.base.progress import Event, Listener, Note, StageFinished
from edgedistill.base.store import BusyError, Store, digest
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import channel_statistics
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.making import PART_STAGE
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.specs import StudentSpec, Target
from edgedistill.pipeline.bench import Data, Workbench
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.teacher import open_labelling
from edgedistill.pipeline.train import train

_CONNECT_S = 5.0
_CONTEXT = get_context("spawn")
MOST_DEATHS = 3
"""So many workers may die at one task before it counts as failed."""

Made = TypeVar("Made")
Made_co = TypeVar("Made_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Task(ABC, Generic[Made_co]):
    """A stage of the cache at `root`, done for the build of `config`. Without `wait` a task that another process is at comes
    back undone."""

    config: BuildConfig
    target: Target
    base: Path
    root: Path
    wait: bool = False

    stage: ClassVar[str]

    @property
    @abstractmethod
    def label(self) -> str:
        """What is done, in a few words."""

    @abstractmethod
    def make(self, bench: Workbench) -> Made_co:
        """Do it on `bench`. Raises TrialFailure where it fails for a reason of its own, BusyError where another process is
        at it and `wait` is off."""


Result: TypeAlias = Made | TrialFailure | None
"""What became of a task; None where another process is at it."""


@dataclass(frozen=True, kw_only=True)
class TrainTask(Task[TrainedStudent]):
    """One training: `spec` up to the end of rung `rung`, from `previous`, on `stored` views."""

    stored: SplitStore
    spec: StudentSpec
    rung: int
    previous: TrainedStudent | None

    stage = "train"

    @property
    def label(self) -> str:
        return f"the training of {self.spec.label}"

    def make(self, bench: Workbench) -> TrainedStudent:
        rungs = self.config.search.rungs
        return train(
            bench,
            self.spec,
            self.stored,
            epochs=rungs[self.rung],
            total_epochs=rungs[-1],
            previous=self.previous,
            wait=self.wait,
        )


@dataclass(frozen=True, kw_only=True)
class LabelTask(Task[Path]):
    """The teacher's logits on view index `view` of `views`, for those with key `logits_key`."""

    views: StoredViews
    view: int
    logits_key: str

    stage = PART_STAGE

    @property
    def label(self) -> str:
        return f"the labelling of view {self.view + 1}"

    def make(self, bench: Workbench) -> Path:
        """Raises InputError where this process would make others than those that are wanted."""
        labelling = open_labelling(bench, self.views)
        if labelling.key != self.logits_key:
            raise InputError(
                "a worker has another teacher, other data or other packages than the build",
                fix="let all machines see the same files, with the same versions of edgedistill and torch",
            )
        return labelling.view(self.view, wait=self.wait)


class Executor(Protocol):
    """What does tasks."""

    def run(self, tasks: Sequence[Task[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        """What became of each task, with its number, as they end. Raises what a user has to mend."""


def do_all(
    executor: Executor, tasks: Sequence[Task[Made]], *, wait: bool = True
) -> Generator[tuple[int, Made | TrialFailure], None, None]:
    """The tasks done, with their numbers, as they end: first those that no other process is at, then, with `wait`, the
    others. Closed before its end, it begins no more of them."""
    left = dict(enumerate(tasks))
    for waiting in (False, True) if wait else (False,):
        if not left:
            return
        numbers = list(left)
        for place, result in executor.run([replace(left[number], wait=waiting) for number in numbers]):
            if result is not None:
                del left[numbers[place]]
                yield numbers[place], result


def train_all(executor: Executor, tasks: Sequence[TrainTask]) -> list[TrainedStudent | TrialFailure]:
    """All trainings done, in their order."""
    done = dict(do_all(executor, tasks))
    return [done[number] for number in range(len(tasks))]


def do(task: Task[Made], bench: Workbench) -> Result[Made]:
    """Do one task on `bench`."""
    try:
        return task.make(bench)
    except BusyError:
        return None
    except TrialFailure as failure:
        return failure


def do_apart(task: Task[Made], threads: int) -> tuple[Result[Made], list[StageFinished]]:
    """Do one task in a process of its own, with so many threads; with what there is to tell of its stage."""
    import torch

    torch.set_num_threads(threads)
    told: list[StageFinished] = []

    def listen(event: Event) -> None:
        if isinstance(event, StageFinished) and event.stage == task.stage:
            told.append(event)

    bench = _bench(task.config, task.target, task.base, task.root)
    bench.store.listener = listen
    return do(task, bench), told


def _bench(config: BuildConfig, target: Target, base: Path, root: Path) -> Workbench:
    """A workbench that trains and measures nothing. A worker keeps its last one: loading the data may take long."""
    key = digest([config.model_dump(mode="json"), target.model_dump(mode="json"), base, root])
    if key not in _benches:
        _benches.clear()
        dataset = load_dataset(config.data)
        data, meter = Data(dataset, *channel_statistics(dataset)), Meter(target, None, "workers do not measure")
        _benches[key] = Workbench.of(config, target, data, Store(root), meter, base)
    return _benches[key]


_benches: dict[str, Workbench] = {}


@dataclass(eq=False)
class InProcess:
    """One after the other on the build's own workbench, whose listener hears of every step."""

    bench: Workbench

    def run(self, tasks: Sequence[Task[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        for number, task in enumerate(tasks):
            yield number, do(task, self.bench)


@dataclass(eq=False)
class Processes:
    """`jobs` tasks at a time, each in a worker process of this machine; they share its CPUs. The workers end with the batch,
    so that none of them disturbs a measurement."""

    jobs: int
    listener: Listener

    def run(self, tasks: Sequence[Task[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        # Pools of one process, not one pool of all: when a worker dies, it is known at which task.
        idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        interrupted = _CONTEXT.Event()
        for _ in range(self.jobs):
            idle.put(_worker(interrupted))
        slots = ThreadPoolExecutor(self.jobs)
        try:
            work = partial(self._done_in_a_worker, idle=idle, interrupted=interrupted)
            running = {slots.submit(work, task): number for number, task in enumerate(tasks)}
            for future in as_completed(running):
                yield running[future], future.result()
        except KeyboardInterrupt:
            interrupted.set()
            raise
        finally:
            slots.shutdown(cancel_futures=True)
            while not idle.empty():
                idle.get().shutdown()

    def _done_in_a_worker(
        self, task: Task[Made], idle: SimpleQueue[ProcessPoolExecutor], interrupted: Signal
    ) -> Result[Made]:
        threads = max(1, len(allowed_cpus()) // self.jobs)
        worker = idle.get()
        try:
            for deaths in range(1, MOST_DEATHS + 1):
                try:
                    result, told = _submitted(worker, do_apart, task, threads).result()
                except BrokenProcessPool:
                    worker = _worker(interrupted)
                    if deaths < MOST_DEATHS:
                        self.listener(Note(f"a worker died at {task.label}: another goes on from there", warning=True))
                    continue
                for event in told:
                    self.listener(event)
                return result
            return TrialFailure(f"{MOST_DEATHS} worker processes died at {task.label}")
        finally:
            idle.put(worker)


def _worker(interrupted: Signal) -> ProcessPoolExecutor:
    """A worker process, started at its first task. It ends with this one, however this one ends; what it is at ends once
    `interrupted` is set."""
    return ProcessPoolExecutor(1, mp_context=_CONTEXT, initializer=_settle, initargs=(interrupted,))


def _submitted(worker: ProcessPoolExecutor, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """`function` begun in `worker`, where an interrupt ends it."""
    # A process takes over the signals that are held back where it is started: Ctrl-C reaches the whole group, and a worker
    # that is still importing torch would answer with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return worker.submit(_interruptible, partial(function, *args, **kwargs))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(eq=False)
class OnRay:
    """Tasks of a Ray cluster: the one that `RAY_ADDRESS` names, else one of this machine, which ends with the batch. All
    nodes see the cache, the data and the teacher's files under the same paths. A task whose worker is lost is done again
    elsewhere.

    Ray's client lives in a process of its own, begun for the batch: it has threads, and beside threads no child can safely
    be forked, as converters are (edgedistill/base/isolation.py). In one process a build would hang now and then."""

    listener: Listener

    def run(self, tasks: Sequence[Task[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        interrupted = _CONTEXT.Event()
        try:
            with _worker(interrupted) as client:
                _submitted(client, _ray_begin, tasks).result()
                try:
                    for _ in tasks:
                        number, result, told = _submitted(client, _ray_next).result()
                        for event in told:
                            self.listener(event)
                        yield number, result
                except KeyboardInterrupt:
                    interrupted.set()
                    raise
                finally:
                    _submitted(client, _ray_end).result()
        except BrokenProcessPool:
            raise UnreachableError(
                "the client of Ray died",
                fix="see what ended it, most often memory; the same command goes on from there",
            ) from None


def check_ray() -> None:
    """Raises MissingDependencyError where Ray is not installed, UnreachableError where nothing listens at `RAY_ADDRESS`: Ray
    itself would try for minutes, and a build for as long as its teacher takes before that."""
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError(
            "Ray is not installed", fix="pip install 'edgedistill[ray]', or leave --executor out"
        )
    address = os.environ.get("RAY_ADDRESS", "")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # "auto" and "local", which Ray understands, or nothing
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UnreachableError(
            f"the Ray cluster {address} does not answer: {error}", fix="check RAY_ADDRESS, or leave --executor out"
        ) from None


# -- in a worker process -------------------------------------------------------------------------------------------


def _settle(interrupted: Signal) -> None:
    """Between tasks an interrupt is the build's business; and a signal that kills the build ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    build = parent_process()
    assert build is not None
    Thread(target=_end_after, args=(build,), daemon=True).start()
    Thread(target=_interrupt_at, args=(interrupted,), daemon=True).start()


def _end_after(build: BaseProcess) -> None:
    build.join()
    os._exit(1)


def _interrupt_at(interrupted: Signal) -> None:
    interrupted.wait()
    main = main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def _interruptible(function: Callable[[], R]) -> R:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


# -- in the process of Ray's client --------------------------------------------------------------------------------

_waiting: dict[Any, tuple[int, str]] = {}
"""The tasks under way: Ray's references to their results, with number and label."""


def _ray_begin(tasks: Sequence[Task[Any]]) -> None:
    """Hand the tasks to the cluster, for one CPU each. Raises UnreachableError where it does not take them."""
    import ray

    # Ray's native code writes what it notices to whatever stdout is; that belongs to the build's result.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnreachableError(
            f"Ray could not be used: {first_line(error)}", fix="check RAY_ADDRESS, or leave --executor out"
        ) from None
    remote: Callable[..., Any] = ray.remote(num_cpus=1, max_retries=MOST_DEATHS)(do_apart).remote
    _waiting.update({remote(task, 1): (number, task.label) for number, task in enumerate(tasks)})


def _ray_next() -> tuple[int, Result[Any], list[StageFinished]]:
    """The next task that ends, by its number, with what became of it and what there is to tell."""
    import ray

    (ready, *_), _ = ray.wait(list(_waiting), num_returns=1)
    number, label = _waiting.pop(ready)
    try:
        result, told = ray.get(ready)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
        return number, TrialFailure(f"{MOST_DEATHS + 1} workers were lost at {label}"), []
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EdgedistillError):
            raise error.cause from None
        # Ray makes a class of its own for each, which cannot be handed to the build's process.
        raise RuntimeError(f"{label} failed on Ray:\n{error}") from None
    return number, result, told


def _ray_end() -> None:
    """Begin no further task, and leave the cluster."""
    import ray

    for unwanted in _waiting:
        ray.cancel(unwanted)
    ray.shutdown()
