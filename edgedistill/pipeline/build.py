"""A build from its job to its results: prepare, search, ship; for one target or for several.

Nothing here imports torch at module level: whether a build has anything to do is decided from hashes before that.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, Listener, Note, StageFinished, loading
from edgedistill.base.store import Store, clear_unfinished, digest, lock, write_atomic
from edgedistill.base.versions import __version__
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.results import BuildIndex, BuildResult, Found, IndexEntry, SearchResult
from edgedistill.outputs.package.package import PACKAGE, package_problems
from edgedistill.pipeline.inputs import require_place
from edgedistill.pipeline.jobs import Job, Order, check_devices

if TYPE_CHECKING:
    from edgedistill.distill.stored.split_store import SplitStore
    from edgedistill.pipeline.describe import Finding
    from edgedistill.pipeline.prepare import PreparedTeacher
    from edgedistill.pipeline.workbench import Executor, Workbench
    from edgedistill.selection.search import Search

F = TypeVar("F", bound=Found)

LOG = "stages.jsonl"
JOURNAL = "study.journal"
SEARCH = "search.json"
BUILD = "build.json"
REPORT = "report.html"
OCCASION = ".remeasuring"


class ExecutorKind(StrEnum):
    """What labels and trains: this machine, in as many processes as there are jobs, or a Ray cluster."""

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

    def ship(order: Order, finding: Finding, teacher: PreparedTeacher, stored: SplitStore) -> BuildResult:
        from edgedistill.outputs.report.html import write_report
        from edgedistill.pipeline.finish import finish

        result = finish(finding, teacher, stored, order.out, keep_teacher=order.how.keep_teacher)
        write_report(order.out)
        return result

    return _done(job, means, listener, "build", finished, ship)


def search(job: Job, means: Means, listener: Listener) -> list[SearchResult]:
    """Search, and leave what was found in each order's folder; a build there ships it without searching again."""

    def leave(order: Order, finding: Finding, teacher: PreparedTeacher, stored: SplitStore) -> SearchResult:
        from edgedistill.pipeline.describe import describe

        result = SearchResult(**dict(describe(finding)))
        write_atomic(order.out / SEARCH, result.model_dump_json(indent=2))
        return result

    return _done(job, means, listener, "search", _searched, leave)


def _done(
    job: Job,
    means: Means,
    listener: Listener,
    what: str,
    known_of: Callable[[Order, str], F | None],
    end: Callable[[Order, Finding, PreparedTeacher, SplitStore], F],
) -> list[F]:
    """A search, of which `end` leaves a result in each order's folder. With nothing changed since the last one, the results
    that `known_of` finds there."""
    key = job.key_told(listener)
    with _folders(job, listener), ExitStack() as held:
        known = [found for order in job.orders if (found := known_of(order, key)) is not None]
        if len(known) == len(job.orders):
            listener(Note(f"nothing has changed since this {what}"))
            return known
        began = time.monotonic()
        before = [found_in(order.out) for order in job.orders]
        prepared = _prepare(job, means, key, listener, held)
        from edgedistill.pipeline.describe import Finding

        outcomes = prepared.search.run()
        results = []
        parts = zip(job.orders, prepared.benches, prepared.teachers, before, strict=True)
        for order, bench, teacher, earlier in parts:
            goals, asked = prepared.search.goals, order.invocation
            finding = Finding(bench, bench.target.name, goals, outcomes, key, began, earlier, asked)
            results.append(end(order, finding, teacher, prepared.stored))
            (order.out / OCCASION).unlink(missing_ok=True)
        return results


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What a job needs, by order."""

    benches: tuple[Workbench, ...]
    teachers: tuple[PreparedTeacher, ...]
    stored: SplitStore
    search: Search


def _prepare(job: Job, means: Means, key: str, listener: Listener, held: ExitStack) -> _Prepared:
    """Worker processes end with `held`."""
    with loading(listener):
        from edgedistill.pipeline.choice import settle
        from edgedistill.pipeline.ensemble import open_ensemble, tell_ensemble
        from edgedistill.pipeline.lab import Laboratory, goal_of, known_before, settings_of
        from edgedistill.pipeline.on_ray import OnRay, check_ray
        from edgedistill.pipeline.prepare import (
            beside_teacher,
            open_benches,
            open_space,
            plausible_multiply_adds,
            prepare_teacher,
            prior_of,
            resolve_budget,
        )
        from edgedistill.pipeline.pretrained import settle_space
        from edgedistill.pipeline.teacher import open_teacher
        from edgedistill.pipeline.truth import hold_against_teacher
        from edgedistill.pipeline.work import fit_all
        from edgedistill.pipeline.workers import Processes
        from edgedistill.pipeline.working import keep_copies
        from edgedistill.selection.on_target import OnTarget
        from edgedistill.selection.search import Search
        from edgedistill.selection.study import Study

    if means.executor is ExecutorKind.RAY:
        check_ray(job.orders[0].config.train.processes)
    store = Store(listener=_logged(listener, job.home / LOG))
    benches = open_benches(job.orders, store)
    for bench in benches:
        held.callback(bench.meter.close)
    first = benches[0]
    occasion = _occasion(job)
    for bench in benches:
        bench.meter.occasion = occasion
    settle_space(benches)
    candidates = open_space(*benches)
    ray = means.executor is ExecutorKind.RAY
    executor: Executor = OnRay(store.listener) if ray else Processes(means.jobs, store.listener)
    held.enter_context(executor)
    for bench in benches:
        bench.executor = executor
    keep_copies(first)
    # Ray gives an item one processor, which is too little to fit a teacher.
    with Processes(means.jobs, store.listener) if ray else nullcontext(executor) as fitting:
        fit_all(first, fitting)
    for bench in benches:
        bench.teacher = open_teacher(first)  # loaded once for all
    hold_against_teacher(first, "validation")
    teachers = tuple(prepare_teacher(bench) for bench in benches)
    goals = tuple(
        goal_of(bench, resolve_budget(bench, bench.config.budget, teacher))
        for bench, teacher in zip(benches, teachers, strict=True)
    )
    limits = [plausible_multiply_adds(teacher, goal.budget) for teacher, goal in zip(teachers, goals, strict=True)]
    ensemble = open_ensemble(first)
    for bench in benches:
        bench.ensemble = ensemble
    if ensemble is not None:
        tell_ensemble(first, ensemble)
    quality = ensemble.quality_validation if ensemble else teachers[0].quality_validation
    stored, choice = settle(benches, teachers[0].teacher, quality, candidates, min(limits))
    for bench in benches:
        bench.choice = choice
    targets = [
        OnTarget(
            Laboratory(bench, stored),
            goal,
            limit,
            prior_of(bench.target),
            beside_teacher(goal.budget, teacher),
        )
        for bench, teacher, goal, limit in zip(benches, teachers, goals, limits, strict=True)
    ]
    turn = store.root / "study" / f"{key}.turn"
    name = study_name(key, occasion, first.space)
    study = Study(means.storage or job.home / JOURNAL, name, [candidate.spec for candidate in candidates], turn)
    known = study.known(lambda: known_before(benches, stored, candidates, goals))
    return _Prepared(benches, teachers, stored, Search(targets, settings_of(first), candidates, study, known))


def study_name(key: str, occasion: str, space: SpaceConfig) -> str:
    """Of the search that the build `key` asks for, in the settled `space`: weights that could not be fetched before make it
    another one, with other candidates."""
    return f"{digest([key, space.models, sorted(space.checkpoints)])} {occasion}".rstrip()


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
    require_place(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the output folder {out} cannot be made: {error.strerror}", fix="use --out DIR") from None


def _occasion(job: Job) -> str:
    """On which occasion measurements are taken: a new one where all are to be taken again, kept in the output folder until
    the build is done, so that one that was killed goes on with its own; else that of the build before in this folder."""
    order = job.orders[0]
    marker = order.out / OCCASION
    if order.how.remeasure and not marker.exists():
        write_atomic(marker, datetime.now(UTC).isoformat(timespec="milliseconds"))
    if marker.exists():
        return marker.read_text()
    before = found_in(order.out)
    return before.occasion if before else ""


def found_in(out: Path) -> Found | None:
    """What the last search or build left in `out`; None where there is nothing to be read. A build clears the search's."""
    return _read(out / SEARCH, SearchResult) or _read(out / BUILD, BuildResult)


def _read(path: Path, kind: type[F]) -> F | None:
    with suppress(OSError, ValidationError, json.JSONDecodeError):
        return kind.model_validate_json(path.read_text())
    return None


def finished(order: Order, key: str) -> BuildResult | None:
    """The result in the order's folder if it is of the build with this key and everything it names is still there,
    unchanged, no measurement is to be taken again, nor was by a search since, and no weights are still to be fetched."""
    out, result, searched = order.out, _read(order.out / BUILD, BuildResult), _read(order.out / SEARCH, SearchResult)
    if result is None or order.how.remeasure or result.build_key != key or result.not_fetched:
        return None
    if searched is not None and searched.occasion != result.occasion:
        return None
    teacher = [(out / file.path).exists() for file in result.teacher.files]
    whole = (out / REPORT).is_file() and not package_problems(out, result) and all(teacher)
    return result if whole and bool(teacher) is order.how.keep_teacher else None


def _searched(order: Order, key: str) -> SearchResult | None:
    found = _read(order.out / SEARCH, SearchResult)
    stale = found is None or order.how.remeasure or found.build_key != key or found.not_fetched
    return None if stale else found


def _logged(listener: Listener, path: Path) -> Listener:
    """Passes events on, and appends each stage that was really done to `path`: a line of JSON with its name and seconds."""

    def hear(event: Event) -> None:
        if isinstance(event, StageFinished) and event.key and not event.reused:
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
        from edgedistill.pipeline.finish import PROFILES
        from edgedistill.pipeline.mistakes import MISTAKES

        (base / REPORT).unlink(missing_ok=True)
        for folder in (PACKAGE, PROFILES, MISTAKES):
            shutil.rmtree(base / folder, ignore_errors=True)
