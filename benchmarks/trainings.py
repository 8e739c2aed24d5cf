"""What the benchmarks share that train many students: Fashion-MNIST cut short, rows that a second start finds, and worker
processes of one thread each, which can do a build's work items themselves."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, Self, TypeAlias

import torch
from scipy import stats  # type: ignore[import-untyped]

from edgedistill.base.progress import Event, Note, StageFinished
from edgedistill.base.store import write_atomic
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import StudentSpec
from edgedistill.pipeline.work import do
from edgedistill.pipeline.workbench import Made, Result, Workbench, WorkItem

Row: TypeAlias = dict[str, Any]
Job: TypeAlias = tuple[Any, ...]
Done: TypeAlias = Callable[[Iterable[Job]], Iterator[list[Row]]]


def open_images(folder: Path, images: int | None) -> Dataset:
    """The data in `folder` with at most `images` for training, stratified; validation and test are whole."""
    return load_dataset(DataConfig(source="idx", path=folder, limit=images))


def parse_student(text: str) -> StudentSpec:
    """`family,width,depth,resolution` as a spec."""
    family, width, depth, resolution = text.split(",")
    return StudentSpec(family=family, width=float(width), depth=float(depth), resolution=int(resolution))


@dataclass(eq=False)
class Rows:
    """The rows of a benchmark in a JSON file, which holds every row from the moment it is added. `keys` tell rows apart."""

    path: Path
    keys: tuple[str, ...]
    document: Row

    @classmethod
    def open(cls, path: Path, keys: tuple[str, ...], settings: Row) -> Rows:
        """With the rows that are there. Ends the program where they were made with other settings."""
        document: Row = json.loads(path.read_text()) if path.is_file() else {"rows": []}
        rows = cls(path, keys, document)
        rows.agree(settings)
        return rows

    def agree(self, settings: Row) -> None:
        """Keep settings with the rows. Ends the program where the rows were made with others."""
        for name, value in settings.items():
            if self.document.get(name, value) != value:
                told = f"{name} {self.document[name]}, not {value}"
                raise SystemExit(f"{self.path} has rows for {told}: name another file")
        self.document |= settings

    def __iter__(self) -> Iterator[Row]:
        return iter(self.document["rows"])

    def have(self, *values: Any) -> bool:
        """Whether there is a row with these values of the keys; fewer values are those of the first keys."""
        return any(values == tuple(row[key] for key in self.keys[: len(values)]) for row in self)

    def add(self, made: Sequence[Row]) -> None:
        """Print and write the rows of a job, all of them at once; they take the place of those with the same keys."""
        new = {tuple(row[key] for key in self.keys): row for row in made}
        kept = [row for row in self if tuple(row[key] for key in self.keys) not in new]
        self.document["rows"] = [*kept, *new.values()]
        for row in made:
            print(json.dumps(row), flush=True)
        self.write()

    def write(self, **more: Any) -> None:
        """Everything so far, with `more` beside the rows."""
        self.document |= more
        write_atomic(self.path, json.dumps(self.document, indent=1) + "\n")


class Work(Protocol):
    """What a worker process has, once, and does again and again."""

    def begin(self) -> None:
        """Called in the process before its first job."""

    def run(self, *job: Any) -> list[Row]:
        """The rows of one job."""


_work: list[Work] = []


def _begin(work: Work) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    work.begin()
    _work.append(work)


def _end_with_parent() -> None:
    """A benchmark that is killed leaves no process behind that trains beside its second start."""
    parent = parent_process()
    assert parent is not None, "this is a worker"
    parent.join()
    os._exit(1)


def _run(*job: Any) -> list[Row]:
    return _work[0].run(*job)


@contextmanager
def workers(work: Work, processes: int) -> Iterator[Done]:
    """A function from jobs to their rows, as the jobs end, in that many processes. After an error no further job begins."""
    context = get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(work,))

    def done(jobs: Iterable[Job]) -> Iterator[list[Row]]:
        for future in as_completed([pool.submit(_run, *job) for job in jobs]):
            yield future.result()

    try:
        yield done
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, eq=False)
class Here:
    """Does the work items of `bench` in this process."""

    bench: Workbench

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None: ...

    def run(self, items: Sequence[WorkItem[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        """What became of each item, one after the other. An item of a further teacher has a bench of its own."""
        for number, item in enumerate(items):
            bench = next(one for one in (self.bench, *self.bench.others) if one.config == item.place.config)
            yield number, do(item, bench)


def interval(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean of paired differences, and half the width of its 95% interval by Student's t; None where there are too few."""
    if not differences:
        return None, None
    mean, count = statistics.fmean(differences), len(differences)
    if count == 1:
        return mean, None
    return mean, float(stats.t.ppf(0.975, count - 1)) * statistics.stdev(differences) / count**0.5


def shown(mean: float | None, half: float | None, unit: str) -> str:
    """`+0.42 +- 0.11 points`; a dash for nothing."""
    if mean is None:
        return "-"
    return f"{mean:+.2f}{'' if half is None else f' +- {half:.2f}'} {unit}"


def listen(event: Event) -> None:
    """Notes, and stages as they end, on stderr."""
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)
    if isinstance(event, StageFinished) and not event.reused:
        print(f"{event.stage} {event.subject}: {event.seconds:.0f} s", file=sys.stderr)
