"""From a build file and the command line to jobs: which searches there are, for which targets, and where their results go.

Nothing here imports torch: whether a build has anything to do is decided from these before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedistill.config import BuildConfig, load_config
from edgedistill.data.fingerprint import fingerprint
from edgedistill.distill.start import start_of
from edgedistill.errors import InputError, Problem
from edgedistill.specs import BudgetRequest, Target
from edgedistill.store import digest, stage_key
from edgedistill.targets import load_target
from edgedistill.teachers.identity import teacher_identity
from edgedistill.tools import BUILD_TOOLS
from edgedistill.units import parse_duration_ms


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


def jobs_of(
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
