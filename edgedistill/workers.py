"""Trainings done side by side: in this process, in worker processes, or on a Ray cluster.

A task is plain values, and what it makes is a stage of the cache: whoever does it, with the same cache, leaves the same
folder under the same key, and nobody does it twice. A task that another process is at is put off, so that two searches
that share a cache share the work. A worker that dies leaves its part folder; the task goes on from there in another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from edgedistill.artifacts import TrainedStudent
from edgedistill.config import BuildConfig
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import channel_statistics
from edgedistill.errors import MissingDependencyError, TrialFailure
from edgedistill.pipeline import train
from edgedistill.progress import Listener, Note, StageFinished
from edgedistill.specs import StudentSpec, Target
from edgedistill.store import BusyError, Store, digest
from edgedistill.teachers.cache import ViewStore
from edgedistill.workbench import Workbench

MOST_DEATHS = 3
"""So many workers may die at one task before it counts as failed."""


@dataclass(frozen=True)
class TrainTask:
    """One training: `spec` up to the end of rung `rung`, from `previous`. `root` is the cache, `views` the view store's
    folder in it. Without `wait` a task that another process is at comes back undone."""

    config: BuildConfig
    target: Target
    base: Path
    root: Path
    views: Path
    spec: StudentSpec
    rung: int
    previous: TrainedStudent | None
    wait: bool = False


Done = TrainedStudent | TrialFailure | None
"""What became of a task; None where another process is at it."""


class Executor(Protocol):
    """Who does trainings."""

    def run(self, tasks: Sequence[TrainTask]) -> list[Done]:
        """What became of each task, in their order."""
        ...


def train_all(executor: Executor, tasks: Sequence[TrainTask]) -> list[TrainedStudent | TrialFailure]:
    """All tasks done: first those that nobody is at, then, waiting, the others."""
    done: dict[int, TrainedStudent | TrialFailure] = {}
    for wait in (False, True):
        left = [number for number in range(len(tasks)) if number not in done]
        found = executor.run([replace(tasks[number], wait=wait) for number in left])
        done |= {number: result for number, result in zip(left, found, strict=True) if result is not None}
    return [done[number] for number in range(len(tasks))]


def do(task: TrainTask, bench: Workbench, views: ViewStore) -> Done:
    """Do one task on `bench`."""
    rungs = task.config.search.rungs
    try:
        return train(
            bench,
            task.spec,
            views,
            epochs=rungs[task.rung],
            total_epochs=rungs[-1],
            previous=task.previous,
            wait=task.wait,
        )
    except BusyError:
        return None
    except TrialFailure as failure:
        return failure


def do_apart(task: TrainTask, threads: int) -> tuple[Done, float]:
    """Do one task in a process of its own, with so many threads; with the seconds that it took, 0 where it was found."""
    import torch

    torch.set_num_threads(threads)
    seconds: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, StageFinished) and not event.reused:
            seconds.append(event.seconds)

    bench = _bench(task.config, task.target, task.base, task.root)
    bench.store.listener = listen
    return do(task, bench, ViewStore.open(task.views)), sum(seconds)


def _bench(config: BuildConfig, target: Target, base: Path, root: Path) -> Workbench:
    """A workbench that trains and measures nothing. A worker keeps its last one: loading the data may take long."""
    key = digest([config.model_dump(mode="json"), target.model_dump(mode="json"), base, root])
    if key not in _benches:
        _benches.clear()
        dataset = load_dataset(config.data)
        mean, std = channel_statistics(dataset)
        store = Store(root)
        _benches[key] = Workbench(config, target, dataset, mean, std, store, None, "workers do not measure", base)
    return _benches[key]


_benches: dict[str, Workbench] = {}


@dataclass(eq=False)
class InProcess:
    """One after the other on the build's own workbench, whose listener hears of every step."""

    bench: Workbench
    views: ViewStore

    def run(self, tasks: Sequence[TrainTask]) -> list[Done]:
        return [do(task, self.bench, self.views) for task in tasks]


@dataclass(eq=False)
class Processes:
    """`jobs` tasks at a time, each in a worker process of this machine; they share its CPUs. The workers end with the batch,
    so that none of them disturbs a measurement."""

    jobs: int
    listener: Listener

    def run(self, tasks: Sequence[TrainTask]) -> list[Done]:
        # A pool of one process for each thread, not one of all: when a worker dies, it is known at which task.
        with ThreadPoolExecutor(self.jobs) as slots:
            return list(slots.map(self._done_in_a_worker, tasks))

    def _done_in_a_worker(self, task: TrainTask) -> Done:
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        for _ in range(MOST_DEATHS):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
                try:
                    result, seconds = worker.submit(do_apart, task, threads).result()
                except BrokenProcessPool:
                    text = f"a worker died while {task.spec.label} was trained: another goes on from there"
                    self.listener(Note(text, warning=True))
                    continue
            _tell(self.listener, task, result, seconds)
            return result
        return TrialFailure(f"{MOST_DEATHS} worker processes died while it was trained")


@dataclass(eq=False)
class OnRay:
    """Tasks of a Ray cluster: the one that `RAY_ADDRESS` names, else one of this machine. All nodes see the cache and the
    data under the same paths. A task whose worker is lost is done again elsewhere."""

    listener: Listener
    threads: int = 1

    def run(self, tasks: Sequence[TrainTask]) -> list[Done]:
        ray = _ray()
        remote: Callable[..., Any] = ray.remote(num_cpus=self.threads, max_retries=MOST_DEATHS)(do_apart).remote
        waiting = {remote(task, self.threads): number for number, task in enumerate(tasks)}
        done: dict[int, Done] = {}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(ready)
            try:
                done[number], seconds = ray.get(ready)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
                done[number] = TrialFailure(f"{MOST_DEATHS + 1} workers were lost while it was trained")
            else:
                _tell(self.listener, tasks[number], done[number], seconds)
        return [done[number] for number in range(len(tasks))]


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingDependencyError(
            "Ray is not installed", fix="pip install 'edgedistill[ray]', or leave --executor out"
        ) from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    return ray


def _tell(listener: Listener, task: TrainTask, result: Done, seconds: float) -> None:
    """As an own stage would have been told of."""
    if isinstance(result, TrainedStudent):
        subject = f"{task.spec.label} to epoch {result.epochs}"
        key = result.weights.parent.name
        listener(StageFinished("train", subject, seconds, reused=seconds == 0, key=key))
