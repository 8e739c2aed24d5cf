"""A build from its job to its results: prepare, search, ship; for one target or for several.

Nothing here imports torch at module level: whether a build has anything to do is decided from hashes before that.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from edgedistill import __version__
from edgedistill.errors import InputError
from edgedistill.jobs import Job, check_devices
from edgedistill.progress import Event, Listener, Note, StageFinished
from edgedistill.results import BuildIndex, BuildResult, Found, IndexEntry, SearchResult
from edgedistill.ship.package import PACKAGE, verify_package
from edgedistill.store import Store, clear_unfinished, lock, write_atomic

if TYPE_CHECKING:
    from edgedistill.describing import Finding
    from edgedistill.preparation import PreparedTeacher
    from edgedistill.selection.search import Outcome, Search
    from edgedistill.teachers.cache import ViewStore
    from edgedistill.workbench import Workbench
    from edgedistill.workers import Executor

LOG = "stages.jsonl"
JOURNAL = "study.journal"
SEARCH = "search.json"
BUILD = "build.json"
REPORT = "report.html"


class ExecutorKind(StrEnum):
    """Who labels and trains: this machine, in as many processes as there are jobs, or a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class Means:
    """What a search is done with, which changes nothing of what it finds: `jobs` views or trainings at a time, by
    `executor`; the study in `storage`, a journal file or a database URL, else in the output folder. Searches that share
    storage and cache share the work."""

    jobs: int = 1
    executor: ExecutorKind = ExecutorKind.LOCAL
    storage: str | None = None


# -- one search -----------------------------------------------------------------------------------------------------


def build(job: Job, means: Means, listener: Listener) -> list[BuildResult]:
    """Search and ship; a result for each order. With nothing changed since the last build in its folders, those."""
    key = job.key
    with _folders(job, listener):
        known = [found for order in job.orders if (found := finished(order.out, key)) is not None]
        if len(known) == len(job.orders):
            listener(Note("nothing has changed since this build"))
            return known
        began = time.monotonic()
        prepared = _prepare(job, means, key, listener)
        from edgedistill.finish import finish
        from edgedistill.report.html import write_report

        outcomes = prepared.search.run()
        results = []
        for order, bench, teacher in zip(job.orders, prepared.benches, prepared.teachers, strict=True):
            finding = prepared.finding(bench, outcomes, key, began)
            results.append(finish(finding, teacher, prepared.views, order.out))
            write_report(order.out)
        return results


def search(job: Job, means: Means, listener: Listener) -> list[SearchResult]:
    """Search, and leave what was found in each order's folder; a build there ships it without searching again."""
    key = job.key
    with _folders(job, listener):
        known = [found for order in job.orders if (found := _searched(order.out, key)) is not None]
        if len(known) == len(job.orders):
            listener(Note("nothing has changed since this search"))
            return known
        began = time.monotonic()
        prepared = _prepare(job, means, key, listener)
        from edgedistill.describing import describe

        outcomes = prepared.search.run()
        results = []
        for order, bench in zip(job.orders, prepared.benches, strict=True):
            result = SearchResult(**dict(describe(prepared.finding(bench, outcomes, key, began))))
            write_atomic(order.out / SEARCH, result.model_dump_json(indent=2))
            results.append(result)
        return results


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What a job needs, by order."""

    benches: tuple[Workbench, ...]
    teachers: tuple[PreparedTeacher, ...]
    views: ViewStore
    search: Search

    def finding(self, bench: Workbench, outcomes: Mapping[str, Outcome], key: str, began: float) -> Finding:
        from edgedistill.describing import Finding

        return Finding(bench, bench.target.name, self.search.goals, outcomes, build_key=key, began=began)


def _prepare(job: Job, means: Means, key: str, listener: Listener) -> _Prepared:
    from edgedistill.laboratory import Laboratory, goal_of, known_before, settings_of
    from edgedistill.preparation import (
        open_bench,
        open_beside,
        open_space,
        open_views,
        plausible_multiply_adds,
        prepare_teacher,
        prior_of,
        resolve_budget,
    )
    from edgedistill.selection.on_target import OnTarget
    from edgedistill.selection.search import Search
    from edgedistill.selection.study import Study
    from edgedistill.teaching import open_teacher
    from edgedistill.workers import check_ray

    if means.executor is ExecutorKind.RAY:
        check_ray()
    order, *others = job.orders
    store = Store(listener=_logged(listener, job.home / LOG))
    measured = order.require_measured
    first = open_bench(order.config, order.target, store, base=order.base, require_measured=measured)
    beside = (open_beside(first, one.config, one.target, require_measured=measured) for one in others)
    benches = (first, *beside)
    candidates = open_space(*benches)
    for bench in benches:
        bench.teacher = open_teacher(first)  # loaded once for all
    teachers = tuple(prepare_teacher(bench) for bench in benches)
    goals = tuple(
        goal_of(bench.config, resolve_budget(bench, bench.config.budget, teacher))
        for bench, teacher in zip(benches, teachers, strict=True)
    )
    executor = _executor(means, first)
    views = open_views(first, executor)
    targets = [
        OnTarget(
            Laboratory(bench, views, executor),
            goal,
            plausible_multiply_adds(teacher, goal.budget),
            prior_of(bench.target),
        )
        for bench, teacher, goal in zip(benches, teachers, goals, strict=True)
    ]
    turn = store.root / "study" / f"{key}.turn"
    study = Study(means.storage or job.home / JOURNAL, key, [candidate.spec for candidate in candidates], turn)
    known = study.known(lambda: known_before(benches, views, candidates, goals))
    return _Prepared(
        benches, teachers, views, Search(targets, settings_of(order.config.search), candidates, study, known)
    )


def _executor(means: Means, bench: Workbench) -> Executor:
    from edgedistill.workers import InProcess, OnRay, Processes

    if means.executor is ExecutorKind.RAY:
        return OnRay(bench.store.listener)
    return InProcess(bench) if means.jobs == 1 else Processes(means.jobs, bench.store.listener)


@contextmanager
def _folders(job: Job, listener: Listener) -> Iterator[None]:
    """Have the output folders to oneself."""
    with ExitStack() as held:
        for out in dict.fromkeys((job.home, *(order.out for order in job.orders))):
            held.enter_context(_alone(out, listener))
        yield


@contextmanager
def _alone(out: Path, listener: Listener) -> Iterator[None]:
    """Have one output folder to oneself, without what a killed build was writing there."""
    make_folder(out)
    with lock(out / ".lock", listener, f"another build in {out}"):
        for name in (BUILD, SEARCH, REPORT):
            clear_unfinished(out / name)
        yield


def make_folder(out: Path) -> None:
    """Make an output folder. Raises InputError where it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        writable = os.access(out, os.W_OK)
    except OSError as error:
        raise InputError(f"the output folder {out} cannot be made: {error.strerror}", fix="use --out DIR") from None
    if not writable:
        raise InputError(f"the output folder {out} cannot be written to", fix="use --out DIR")


def finished(out: Path, key: str) -> BuildResult | None:
    """The result in `out` if it is of the build with this key and everything it names is still there, unchanged."""
    try:
        result = BuildResult.model_validate_json((out / BUILD).read_text())
    except (OSError, ValidationError, json.JSONDecodeError):
        return None
    whole = (out / REPORT).is_file() and not verify_package(out, result)
    return result if result.build_key == key and whole else None


def _searched(out: Path, key: str) -> SearchResult | None:
    try:
        result = SearchResult.model_validate_json((out / SEARCH).read_text())
    except (OSError, ValidationError, json.JSONDecodeError):
        return None
    return result if result.build_key == key else None


def _logged(listener: Listener, path: Path) -> Listener:
    """Passes events on, and appends each stage that was really done to `path`: a line of JSON with its name and seconds."""

    def hear(event: Event) -> None:
        if isinstance(event, StageFinished) and not event.reused:
            line = {
                "stage": event.stage,
                "key": event.key,
                "subject": event.subject,
                "seconds": round(event.seconds, 3),
            }
            with path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        listener(event)

    return hear


# -- several targets ------------------------------------------------------------------------------------------------


def build_each(jobs: Sequence[Job], means: Means, listener: Listener) -> BuildIndex:
    """One job after the other: teacher, views and what was trained for one serve the next. The index of all targets is
    written beside their folders, after each job as far as it goes."""
    return _each(jobs, BUILD, lambda job: build(job, means, listener), listener)


def search_each(jobs: Sequence[Job], means: Means, listener: Listener) -> BuildIndex:
    """`build_each` that stops before anything is shipped."""
    return _each(jobs, SEARCH, lambda job: search(job, means, listener), listener)


def _each(jobs: Sequence[Job], name: str, do: Callable[[Job], Sequence[Found]], listener: Listener) -> BuildIndex:
    check_devices(jobs, listener)
    began = time.monotonic()
    base = jobs[0].orders[0].out.parent
    entries: list[IndexEntry] = []
    for job in jobs:
        names = ", ".join(order.target.name for order in job.orders)
        listener(Note(f"target {names}" if len(job.orders) == 1 else f"one student for {names}"))
        entries += [
            IndexEntry(target=found.target, folder=order.out.name, status=found.status, verdict=found.verdict)
            for order, found in zip(job.orders, do(job), strict=True)
        ]
        index = BuildIndex(edgedistill_version=__version__, targets=tuple(entries), seconds=time.monotonic() - began)
        with _alone(base, listener):
            if name == BUILD:
                _clear(base)
            write_atomic(base / name, index.model_dump_json(indent=2))
    return index


def _clear(base: Path) -> None:
    """Remove from the folder of an index what an earlier search left there, which stands in the index, and what an earlier
    build for one target did: its package and report would pass for those of all."""
    (base / SEARCH).unlink(missing_ok=True)
    try:
        BuildIndex.model_validate_json((base / BUILD).read_text())
    except FileNotFoundError:
        return
    except ValidationError:
        from edgedistill.finish import PROFILES

        (base / REPORT).unlink(missing_ok=True)
        for folder in (PACKAGE, PROFILES):
            shutil.rmtree(base / folder, ignore_errors=True)
