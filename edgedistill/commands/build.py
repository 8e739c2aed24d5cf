"""`edgedistill.build` and `search`, for one target or for several, and what they would try.

Nothing here imports torch at module level.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from edgedistill.base.errors import Collected, InputError, Problem, wrong_options
from edgedistill.base.progress import Listener, loading, silent
from edgedistill.commands.options import SearchOptions, require_known
from edgedistill.documents.answers import Plan
from edgedistill.documents.devices import device_named
from edgedistill.documents.results import BuildIndex, BuildResult, SearchResult
from edgedistill.pipeline import build as building
from edgedistill.pipeline.build import ExecutorKind, Means
from edgedistill.pipeline.jobs import Changes, How, Job, check_devices, jobs_of


def build(
    path: Path | str,
    *,
    target: str | Path | None = None,
    keep_teacher: bool = True,
    listener: Listener = silent,
    **options: Unpack[SearchOptions],
) -> BuildResult:
    """Run the build that the file at `path` describes and return what `OUT/build.json` holds.

    `target` (a name or the path of a TOML file) replaces that of the file; see SearchOptions for the others. With nothing
    changed since the last build in `out`, returns its result at once. The teacher's fp32 file lies in `out` as well, unless
    `keep_teacher` is off. A budget that is not met is a result (`status == "not_met"`), not an exception. Raises InputError
    for bad input.
    """
    using, found = _asked(path, _one(target), options, keep_teacher=keep_teacher)
    return building.build(_only(path, found), using, listener)[0]


def build_all(
    path: Path | str,
    *,
    targets: Sequence[str | Path] = (),
    one_student: bool = False,
    keep_teacher: bool = True,
    listener: Listener = silent,
    **options: Unpack[SearchOptions],
) -> BuildResult | BuildIndex:
    """`build` for each of `targets`, else of the file's. For several, each goes into a folder of its name in `out`, and what
    is returned is their index, `OUT/build.json`; for one, its result as `build` returns it. With `one_student` the same
    student is searched for all of them: each file of it is proven on its own target."""
    using, found = _asked(path, targets, options, one_student=one_student, keep_teacher=keep_teacher)
    if _several(found):
        return building.build_each(found, using, listener)
    return building.build(found[0], using, listener)[0]


def plan(
    path: Path | str,
    *,
    targets: Sequence[str | Path] = (),
    one_student: bool = False,
    listener: Listener = silent,
    **options: Unpack[SearchOptions],
) -> Plan:
    """What `build_all` would try with the same options, and what that would cost as far as it is known: nothing is trained,
    measured or fetched. Raises InputError with all that a build would find wrong: first with the options, the build file,
    its targets, its output folder and what it names, then with the data, the teacher and the space, for which torch is
    loaded; UnreachableError where a device has to be measured and does not answer."""
    _, jobs = _asked(path, targets, options, one_student=one_student)
    check_devices(jobs, listener)
    with loading(listener):
        from edgedistill.pipeline.plan import plan_of

    return plan_of(jobs, listener)


def search(
    path: Path | str,
    *,
    target: str | Path | None = None,
    listener: Listener = silent,
    **options: Unpack[SearchOptions],
) -> SearchResult:
    """`build` that stops before anything is shipped; returns what `OUT/search.json` holds."""
    using, found = _asked(path, _one(target), options)
    return building.search(_only(path, found), using, listener)[0]


def search_all(
    path: Path | str,
    *,
    targets: Sequence[str | Path] = (),
    one_student: bool = False,
    listener: Listener = silent,
    **options: Unpack[SearchOptions],
) -> SearchResult | BuildIndex:
    """`build_all` that stops before anything is shipped; the index of several targets is `OUT/search.json`."""
    using, found = _asked(path, targets, options, one_student=one_student)
    if _several(found):
        return building.search_each(found, using, listener)
    return building.search(found[0], using, listener)[0]


def _one(target: str | Path | None) -> tuple[str | Path, ...]:
    return () if target is None else (target,)


def _several(jobs: Sequence[Job]) -> bool:
    return sum(len(job.orders) for job in jobs) > 1


def _asked(
    path: Path | str,
    targets: Sequence[str | Path],
    options: SearchOptions,
    *,
    one_student: bool = False,
    keep_teacher: bool = True,
) -> tuple[Means, tuple[Job, ...]]:
    """What a search is done with, and the jobs of a build file. Raises InputError with all that is wrong with either."""
    require_known(options, SearchOptions)
    named = options.get("budget"), options.get("trials"), options.get("time")
    changes = Changes(*named, one_student, options.get("skip_broken", False))
    device = options.get("device", "")
    # A device that is named is wanted.
    how = How(
        options.get("require_measured", False) or bool(device), options.get("remeasure", False), keep_teacher, device
    )
    wrong, out = Collected(), options.get("out")
    with wrong:
        if device:
            device_named(device)
    with wrong:
        using = means(options.get("jobs", 1), options.get("executor", "local"), options.get("storage"))
    with wrong:
        found = jobs_of(Path(path), tuple(map(str, targets)), changes, None if out is None else Path(out), how)
    wrong.raise_any()
    return using, found


def _only(path: Path | str, jobs: Sequence[Job]) -> Job:
    """Raises InputError where the file has several targets and none is named."""
    if _several(jobs):
        names = ", ".join(order.target.name for job in jobs for order in job.orders)
        raise InputError(
            f"{path} has several targets: {names}", fix="name one as `target`, or use build_all or search_all"
        )
    return jobs[0]


def means(jobs: int, executor: str, storage: str | None) -> Means:
    """What a search is done with. Raises InputError."""
    problems = []
    if jobs < 1:
        problems.append(Problem("--jobs", f"{jobs} is not a number of processes", "give 1 or more"))
    if executor not in set(ExecutorKind):
        problems.append(Problem("--executor", f"unknown executor {executor!r}", "use local or ray"))
    if problems:
        raise wrong_options(problems)
    return Means(jobs, ExecutorKind(executor), storage)
