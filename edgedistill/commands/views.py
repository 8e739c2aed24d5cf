"""`edgedistill.build_views`, `views_info` and `check_views`: what a build's students learn from, without a build."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.base.errors import Collected, InputError, Problem, wrong_options
from edgedistill.base.progress import Listener, loading, silent
from edgedistill.base.store import Store
from edgedistill.commands.build import means
from edgedistill.documents.answers import ViewsCheck, ViewsInfo
from edgedistill.pipeline.build import ExecutorKind
from edgedistill.pipeline.jobs import Changes, How, jobs_of

if TYPE_CHECKING:
    from edgedistill.distill.stored.split_store import SplitStore
    from edgedistill.pipeline.workbench import Workbench
    from edgedistill.pipeline.workers import Processes


def build_views(path: Path | str, *, jobs: int = 1, executor: str = "local", listener: Listener = silent) -> ViewsInfo:
    """Make what the students of the build file at `path` learn from, or find it, and tell of it. The teacher is fitted first
    where the file asks for that. `jobs` views are labelled at a time, here or (`executor="ray"`) on a Ray cluster. A call
    that was stopped goes on from the cache. Raises InputError for bad input."""
    bench, stored = _opened(path, (jobs, executor), listener)
    from edgedistill.pipeline.views import info_of

    return info_of(bench, stored)


def views_info(path: Path | str, *, listener: Listener = silent) -> ViewsInfo:
    """Tell of what is stored for the build file at `path`. Raises InputError for bad input, and where nothing is stored
    yet."""
    bench, stored = _opened(path, None, listener)
    from edgedistill.pipeline.views import info_of

    return info_of(bench, stored)


def check_views(path: Path | str, *, images: int = 256, listener: Listener = silent) -> ViewsCheck:
    """Hold what is stored for the build file at `path` against the live teacher, on `images` drawn training images, each in
    all views. Raises InputError for bad input, and where nothing is stored yet."""
    if images < 1:
        raise wrong_options([Problem("--images", f"{images} is not a number of images", "give 1 or more")])
    bench, stored = _opened(path, None, listener)
    if not stored.signals:
        raise InputError("the recipe asks no teacher: nothing is stored of one", fix="name another recipe in [train]")
    from edgedistill.pipeline.views import check_of

    return check_of(bench, stored, images)


def _opened(path: Path | str, making: tuple[int, str] | None, listener: Listener) -> tuple[Workbench, SplitStore]:
    """What is learnt from: found, or made by so many jobs of such an executor."""
    wrong, using = Collected(), None
    with wrong:
        using = None if making is None else means(*making, None)
    with wrong:
        found = jobs_of(Path(path), (), Changes(), None, How())
    wrong.raise_any()
    with loading(listener):
        from edgedistill.pipeline.on_ray import OnRay, check_ray
        from edgedistill.pipeline.views import open_views
    order = found[0].orders[0]  # every target's students learn from the same
    if using is None:
        return open_views(order, listener, None)
    if using.executor is ExecutorKind.RAY:
        check_ray(order.config.train.processes)
        return open_views(order, listener, lambda store: OnRay(store.listener))
    return open_views(order, listener, partial(_processes, using.jobs))


def _processes(jobs: int, store: Store) -> Processes:
    from edgedistill.pipeline.workers import Processes

    return Processes(jobs, store.listener)
