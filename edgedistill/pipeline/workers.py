"""Work items done in worker processes of this machine.

A worker that dies leaves its part folder; the item goes on from there in another. A network on which native code crashes is
so a failed trial, and not the build's end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Final, Self, cast

import torch

from edgedistill.base.errors import TrialFailure
from edgedistill.base.machine import usable_cpus
from edgedistill.base.processes import Worker, WorkerDied
from edgedistill.base.progress import Event, Listener, Note, StageFinished, silent, telling
from edgedistill.base.store import Store, digest
from edgedistill.data.datasets import load_dataset
from edgedistill.pipeline.bench import Data
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.work import do
from edgedistill.pipeline.workbench import Made, Place, Result, Workbench, WorkItem

MOST_DEATHS: Final = 3
"""So many workers may die at one item before it counts as failed."""


def do_apart(item: WorkItem[Made], threads: int, everything: bool, tell: Listener) -> Result[Made]:
    """Do one work item in this process, a worker's, with so many threads. `tell` hears everything, or when the item's own
    stage is done."""
    torch.set_num_threads(threads)

    def listen(event: Event) -> None:
        if everything or (isinstance(event, StageFinished) and event.stage == item.stage):
            tell(event)

    bench = _bench(item.place, tell if everything else silent)
    bench.store.listener = listen
    return do(item, bench)


def _bench(place: Place, listener: Listener) -> Workbench:
    """A workbench that trains and measures nothing. A worker keeps its last one: loading the data may take long."""
    config, target = place.config, place.target
    asked = (config.model_dump(mode="json"), target.model_dump(mode="json"))
    key = digest([*asked, place.base, place.root, place.statistics, place.dimension])
    if key not in _benches:
        _benches.clear()
        with telling(listener, "load", "a process that trains"):
            dataset = load_dataset(config.data, need_labels=config.task == "classification")
            data, meter = Data(dataset, *place.statistics), Meter(target, None, "workers do not measure")
            _benches[key] = Workbench.of(config, target, data, Store(place.root), meter, place.base)
            _benches[key].dimension = place.dimension
    _benches[key].vectors.update(place.vectors)
    return _benches[key]


_benches: dict[str, Workbench] = {}


@dataclass(eq=False)
class Processes:
    """`jobs` items at a time, each in a worker process of this machine; they share its CPUs. Between batches the workers
    wait: none of them disturbs a measurement. As a context they end with it."""

    jobs: int
    listener: Listener
    _workers: list[Worker] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def run(self, items: Sequence[WorkItem[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        at_once = max(1, min(self.jobs, len(items)))
        threads = max(1, min(torch.get_num_threads(), usable_cpus()) // at_once)
        waiting = deque(enumerate(items))
        deaths = Counter[int]()
        busy: dict[Connection, tuple[Worker, int]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.jobs:
                    number, item = waiting.popleft()
                    worker = self._idle(busy)
                    worker.begin(do_apart, item, threads, at_once == 1)
                    busy[worker.connection] = (worker, number)
                for connection in wait(list(busy)):
                    worker, number = busy[cast("Connection", connection)]
                    try:
                        event, result = worker.heard()
                    except WorkerDied as death:
                        del busy[cast("Connection", connection)]
                        self._workers.remove(worker)
                        deaths[number] += 1
                        if deaths[number] < MOST_DEATHS:
                            waiting.appendleft((number, items[number]))
                            text = f"{items[number].label}: {death}; another goes on from there"
                            self.listener(Note(text, warning=True))
                            continue
                        event, result = None, TrialFailure(f"{death}, {MOST_DEATHS} times")
                    if event is not None:
                        self.listener(event)
                        continue
                    busy.pop(cast("Connection", connection), None)
                    yield number, result
        except BaseException:
            for worker, _ in busy.values():
                worker.interrupt()
                self._workers.remove(worker)
            raise

    def _idle(self, busy: dict[Connection, tuple[Worker, int]]) -> Worker:
        for worker in self._workers:
            if worker.connection not in busy:
                return worker
        self._workers.append(Worker())
        return self._workers[-1]
