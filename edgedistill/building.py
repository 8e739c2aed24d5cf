"""A build from its orders to its results: prepare, search, ship; for one target or for several.

Nothing here imports torch at module level: whether a build has anything to do is decided from hashes before that.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from edgedistill import __version__
from edgedistill.config import BuildConfig, load_config
from edgedistill.data.fingerprint import fingerprint
from edgedistill.distill.start import start_of
from edgedistill.errors import InputError, Problem
from edgedistill.progress import Event, Listener, Note, StageFinished
from edgedistill.results import BuildIndex, BuildResult, Found, IndexEntry, SearchResult
from edgedistill.ship.package import verify_package
from edgedistill.specs import BudgetRequest, Target
from edgedistill.store import Store, digest, lock, stage_key, write_atomic
from edgedistill.targets import load_target
from edgedistill.teachers.identity import teacher_identity
from edgedistill.tools import BUILD_TOOLS
from edgedistill.units import parse_duration_ms

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


@dataclass(frozen=True)
class Order:
    """One build: its file with all that the command line replaced, its target, where it goes."""

    config: BuildConfig
    target: Target
    base: Path
    out: Path
    require_measured: bool = False

    @property
    def key(self) -> str:
        """What a build depends on: its file, target and budget, the content of its data, its teacher and the weights that
        students start from, this package's source and the versions of its tools."""
        config = self.config
        return stage_key(
            {
                "config": config.model_dump(mode="json"),
                "target": self.target.model_dump(mode="json"),
                "data": fingerprint(config.data),
                "teacher": teacher_identity(config.teacher, self.base),
                "starts": [start.identity for name in config.space.models if (start := start_of(config.space, name))],
            },
            code=("edgedistill",),
            tools=BUILD_TOOLS,
        )


@dataclass(frozen=True)
class Job:
    """One search and what is shipped of it: for one order, or for several that one student is to serve."""

    orders: tuple[Order, ...]

    @property
    def key(self) -> str:
        """What it depends on: all that its orders do."""
        keys = [order.key for order in self.orders]
        return keys[0] if len(keys) == 1 else digest(["one student for all", *keys])

    @property
    def home(self) -> Path:
        """Where its study and log lie: its order's folder, or the one that holds those of several."""
        out = self.orders[0].out
        return out if len(self.orders) == 1 else out.parent


@dataclass(frozen=True)
class Changes:
    """What the command line puts in the place of a build file's words; None leaves them, and so does `one_student` off."""

    budget: str | None = None
    trials: int | None = None
    time: str | None = None
    one_student: bool = False


def jobs(
    path: Path, targets: tuple[str, ...], changes: Changes, out: Path | None, *, require_measured: bool
) -> tuple[Job, ...]:
    """The jobs of the build file at `path` for `targets`, else those of the file: one for each, or, where one student is
    wanted, one for all. A single target's results go to `out` (`out/` beside the file), several targets' to folders in it.
    Raises InputError."""
    replaced = _read(changes)
    config = _changed(load_config(path), replaced)
    chosen = [load_target(name) for name in (targets or config.targets or (config.target,))]
    if strangers := sorted(set(config.budgets) - {target.name for target in chosen} - set(config.targets)):
        problem = Problem("[budgets]", f"{', '.join(strangers)} is no target of this build", "name one of its targets")
        raise InputError(f"{path.name} has 1 problem", problems=[problem])
    twice = {target.name for target in chosen if sum(t.name == target.name for t in chosen) > 1}
    if twice:
        raise InputError(f"target {', '.join(sorted(twice))} is named twice", fix="name each target once")
    if changes.one_student and len(chosen) == 1:
        raise InputError(
            f"one student for several targets is wanted, and {chosen[0].name} is the only one", fix="name another one"
        )
    base = path.parent.absolute()
    folder = out.absolute() if out is not None else base / "out"
    orders = tuple(
        _order(config, target, base, folder / target.name if len(chosen) > 1 else folder, changes, require_measured)
        for target in chosen
    )
    together = changes.one_student or config.one_student
    return (Job(orders),) if together else tuple(Job((order,)) for order in orders)


def _order(
    config: BuildConfig, target: Target, base: Path, out: Path, changes: Changes, require_measured: bool
) -> Order:
    budget = config.budget if changes.budget is not None else config.budgets.get(target.name, config.budget)
    if config.export.allow_fallbacks:
        target = target.model_copy(update={"allow_fallbacks": True})
    # The other targets and their budgets change nothing of this one's build, and stay out of its key.
    update = {"target": target.name, "targets": (), "budget": budget, "budgets": {}, "one_student": False}
    return Order(config.model_copy(update=update), target, base, out, require_measured)


@dataclass(frozen=True)
class _Replaced:
    """`Changes`, read."""

    budget: BudgetRequest | None = None
    trials: int | None = None
    time_ms: float | None = None


def _read(changes: Changes) -> _Replaced:
    """Raises InputError naming every option that is wrong, before any file is read."""
    problems: list[Problem] = []
    budget: BudgetRequest | None = None
    time_ms: float | None = None
    try:
        budget = None if changes.budget is None else BudgetRequest.parse(changes.budget)
    except InputError as error:
        problems.append(Problem("--budget", error.message, error.fix))
    if changes.trials is not None and changes.trials < 1:
        problems.append(Problem("--trials", f"{changes.trials} is not a number of candidates", "give 1 or more"))
    try:
        time_ms = None if changes.time is None else parse_duration_ms(changes.time)
    except InputError as error:
        problems.append(Problem("--time", error.message, "write it like 90s, 30min or 2h"))
    if problems:
        raise InputError("a wrong option" if len(problems) == 1 else "wrong options", problems=problems)
    return _Replaced(budget, changes.trials, time_ms)


def _changed(config: BuildConfig, replaced: _Replaced) -> BuildConfig:
    search: dict[str, object] = {}
    if replaced.trials is not None:
        search["trials"] = replaced.trials
    if replaced.time_ms is not None:
        search["time"] = replaced.time_ms
    return config.model_copy(
        update={
            "search": config.search.model_copy(update=search),
            "budget": config.budget if replaced.budget is None else replaced.budget,
        }
    )


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
            make_folder(out)
            held.enter_context(lock(out / ".lock", listener, f"another build in {out}"))
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
    whole = (out / "report.html").is_file() and not verify_package(out, result)
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
        write_atomic(base / name, index.model_dump_json(indent=2))
    if name == BUILD:
        (base / SEARCH).unlink(missing_ok=True)  # an earlier search's index: all that it said stands in the build's
    return index
