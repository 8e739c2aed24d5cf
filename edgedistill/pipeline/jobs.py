"""From a build file and the command line to jobs: which searches there are, for which targets, and where their results go.

Nothing here imports torch: whether a build has anything to do is decided from these before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgedistill.base.errors import Collected, InputError, Problem, UnreachableError, wrong_options
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import digest, file_sha256, stage_key
from edgedistill.base.units import parse_duration_ms
from edgedistill.data.fingerprint import fingerprint
from edgedistill.devices.attach import attach, require_elsewhere
from edgedistill.devices.latency.imported import with_imported
from edgedistill.distill.start import start_of
from edgedistill.distill.teachers.identity import teacher_identity
from edgedistill.documents.build_file import BuildConfig, load_config
from edgedistill.documents.sections import load_sections
from edgedistill.documents.specs import BudgetRequest, Target
from edgedistill.documents.targets import load_target, target_with
from edgedistill.documents.toml_lines import line_of
from edgedistill.formats import measured_by_agent
from edgedistill.pipeline.code import build_tools
from edgedistill.pipeline.inputs import check_inputs, require_place
from edgedistill.pipeline.invocation import Invocation, invocation_of


@dataclass(frozen=True)
class How:
    """What changes nothing of the search for a student: whether a device has to answer, whether all measurements are taken
    again, whether the teacher's file is left beside the package, and which of the user's devices is measured, empty for the
    target's own."""

    require_measured: bool = False
    remeasure: bool = False
    keep_teacher: bool = True
    device: str = ""


@dataclass(frozen=True)
class Order:
    """One build: its file with all that the command line replaced, its target, where it goes, and `how`. What is built does
    not depend on its `invocation`, and whether two orders are equal does not either."""

    config: BuildConfig
    target: Target
    base: Path
    out: Path
    how: How = field(default_factory=lambda: How())
    invocation: Invocation = field(default_factory=Invocation, compare=False)

    @property
    def key(self) -> str:
        """What a build depends on: its file, target and budget, the content of its data, its teacher and the weights that
        students start from, this package's source and the versions of its tools."""
        return self.key_with(fingerprint(self.config.data))

    def key_with(self, data: str) -> str:
        """The same where the fingerprint of its data is known."""
        config = self.config
        return stage_key(
            {
                "config": config.model_dump(mode="json"),
                "target": self.target.model_dump(mode="json"),
                "data": data,
                "teachers": [teacher_identity(teacher, self.base) for teacher in config.all_teachers],
                "class_vectors": None if config.class_vectors is None else file_sha256(config.class_vectors),
                "starts": [start.identity for name in config.space.models if (start := start_of(config.space, name))],
            },
            code=("edgedistill",),
            tools=build_tools(self.target),
        )


@dataclass(frozen=True)
class Job:
    """One search and what is shipped of it: for one order, or for several that one student is to serve."""

    orders: tuple[Order, ...]

    @property
    def key(self) -> str:
        """What it depends on: all that its orders do."""
        return self.key_told(silent)

    def key_told(self, listener: Listener) -> str:
        """The same; `listener` hears how far reading the data is, if it takes long. All orders are of one build file, and so
        of one data set."""
        data = fingerprint(self.orders[0].config.data, listener)
        keys = [order.key_with(data) for order in self.orders]
        return keys[0] if len(keys) == 1 else digest(["one student for all", *keys])

    @property
    def home(self) -> Path:
        """Where its study and log lie: its order's folder, or the one that holds those of several."""
        out = self.orders[0].out
        return out if len(self.orders) == 1 else out.parent


@dataclass(frozen=True)
class Changes:
    """What the command line puts in the place of a build file's words; None leaves them, and so do switches that
    are off."""

    budget: str | None = None
    trials: int | None = None
    time: str | None = None
    one_student: bool = False
    skip_broken: bool = False

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """The same by option of the command line, each with its values; a switch has none."""
        given = {"--budget": self.budget, "--trials": self.trials, "--time": self.time}
        found: dict[str, tuple[str, ...]] = {name: (str(value),) for name, value in given.items() if value is not None}
        switches = {"--one-student": self.one_student, "--skip-broken": self.skip_broken}
        found |= {name: () for name, on in switches.items() if on}
        return found


def jobs_of(
    path: Path, targets: tuple[str, ...], changes: Changes, out: Path | None, how: How = How()
) -> tuple[Job, ...]:
    """The jobs of the build file at `path` for `targets`, else those of the file: one for each, or, where one student is
    wanted, one for all. A single target's results go to `out` (`out/` beside the file), several targets' to folders in it.
    Raises InputError that names at once what is wrong with the options, with the file, with its targets, with the output
    folder, and with the data, the teacher and the families that it names."""
    wrong, base = Collected(), path.parent.absolute()
    folder = out.absolute() if out is not None else base / "out"
    chosen: list[Target] = []
    read: BuildConfig | None = None
    with wrong:
        replaced = _read(changes)
    with wrong:
        chosen = _loaded(targets)
    with wrong:
        read = load_config(path)
    with wrong:
        require_place(folder)
    with wrong:
        chosen = chosen if targets else _loaded(load_sections(path)[0].targets)
    if read is not None:
        with wrong:
            _match(path, read, chosen, changes)
    if how.device and (problems := _unfit_device(chosen)):
        with wrong:
            raise wrong_options(problems)
    with wrong:
        check_inputs(path)
    wrong.raise_any()
    assert read is not None
    config = _changed(read, replaced, changes)
    several, together = len(chosen) > 1, changes.one_student or config.one_student
    orders = []
    for name, target in zip(targets or _named(read), chosen, strict=True):
        order = _order(config, target, base, folder / target.name if several else folder, changes, how)
        # Each of several targets can be built by itself; one student for all of them cannot.
        named = (name,) if several and not together else targets
        orders.append(replace(order, invocation=invocation_of(path, order.out, named, changes.options)))
    return (Job(tuple(orders)),) if together else tuple(Job((order,)) for order in orders)


def check_devices(jobs: Sequence[Job], listener: Listener) -> None:
    """See that every device answers that has to, before the first of several jobs begins: the last may be hours away. Raises
    UnreachableError where a measurement is required, InputError where a budget is a share of a teacher that cannot be
    measured, naming every target."""
    shares: list[Problem] = []
    unanswered: list[Problem] = []
    for order in (order for job in jobs for order in job.orders):
        is_share = order.config.budget.share_of_teacher is not None
        if not is_share and not order.how.require_measured:
            continue
        try:
            attach(order.target, listener, order.how.device).close()
        except UnreachableError as error:
            name = order.target.name
            if not order.how.require_measured:
                shares.append(
                    Problem(
                        name,
                        f"the budget is a share of the teacher's latency, which cannot be measured: {error.message}",
                        f'give it one in milliseconds: --budget 5ms@p95, or [budgets] "{name}" = "5ms@p95"',
                    )
                )
            else:
                unanswered.append(Problem(name, error.message, error.fix))
    if unanswered:
        raise UnreachableError("not every target can be measured", problems=unanswered)
    if shares:
        raise InputError("not every target can be measured", problems=shares)


def _named(config: BuildConfig) -> tuple[str, ...]:
    return config.targets or (config.target,)


def _loaded(names: Sequence[str]) -> list[Target]:
    """Raises InputError with what is wrong with any of them."""
    found, wrong = [], Collected()
    for name in names:
        with wrong:
            found.append(with_imported(load_target(name)))
    wrong.raise_any()
    return found


def _match(path: Path, config: BuildConfig, chosen: Sequence[Target], changes: Changes) -> None:
    """Raises InputError with what does not go together: the file and its targets, or the targets with one another. Where no
    target could be read there is nothing to say."""
    if not chosen:
        return
    problems = [
        *_stray_budgets(path, config, chosen),
        *_foreign_formats(path, config, chosen),
        *_ill_matched(chosen, changes),
    ]
    if problems:
        raise InputError(
            f"the targets of {path.name} have {len(problems)} problem{'s' * (len(problems) > 1)}", problems=problems
        )


def _stray_budgets(path: Path, config: BuildConfig, chosen: Sequence[Target]) -> list[Problem]:
    """Budgets of targets that neither the command line nor the file names."""
    strangers = set(config.budgets) - {target.name for target in chosen}
    if strangers:
        strangers -= {target.name for target in _loaded(_named(config))}
    text = path.read_text(encoding="utf-8-sig")
    return [
        Problem(
            f"{path}:{line_of(text, ['budgets', name])}",
            f"[budgets] {name} is no target of this build",
            "name one of its targets",
        )
        for name in sorted(strangers)
    ]


def _foreign_formats(path: Path, config: BuildConfig, chosen: Sequence[Target]) -> list[Problem]:
    """Formats of `[export]` that none of the targets has, each with a target that does."""
    foreign = [form for form in config.export.formats if not any(form in target.formats for target in chosen)]
    having = " and ".join(f"{target.name} ({', '.join(target.formats)})" for target in chosen)
    problems = []
    for form in foreign:
        line = line_of(path.read_text(encoding="utf-8-sig"), ["export", "formats"])
        other = target_with(form, chosen[0])
        instead = f"name a target that has it, such as {other.name}, or leave it out" if other else "leave it out"
        problems.append(Problem(f"{path}:{line}", f"[export] formats: {form} is no format of {having}", instead))
    return problems


def _unfit_device(chosen: Sequence[Target]) -> list[Problem]:
    """What is wrong with one named device for these targets."""
    if len(chosen) > 1:
        fix = "build for one target, or say in your devices.toml which device is of which target"
        return [Problem("--device", f"one device is named for {len(chosen)} targets", fix)]
    problems = []
    for target in chosen:
        try:
            require_elsewhere(target)
        except InputError as error:
            problems.append(Problem("--device", error.message, error.fix))
            continue
        if target.runtime not in measured_by_agent():
            what = f"{target.name} runs {target.runtime}, which is not measured from elsewhere"
            problems.append(
                Problem("--device", what, f"edgedistill targets show {target.name} says how it is measured")
            )
    return problems


def _ill_matched(chosen: Sequence[Target], changes: Changes) -> list[Problem]:
    """What several targets cannot be together, or one alone."""
    names = [target.name for target in chosen]
    problems = [
        Problem("", f"target {name} is named twice", "name each target once")
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    if len(names) > 1:
        problems += [
            Problem("", f"a target's name is a folder's, which {name!r} cannot be", "change the name in its file")
            for name in names
            if name in ("", "..") or Path(name).name != name
        ]
    elif changes.one_student:
        problems.append(
            Problem(
                "--one-student",
                f"one student for several targets is wanted, and {names[0]} is the only one",
                "name another one with --target",
            )
        )
    return problems


def _order(config: BuildConfig, target: Target, base: Path, out: Path, changes: Changes, how: How) -> Order:
    budget = config.budget if changes.budget is not None else config.budgets.get(target.name, config.budget)
    # Of several targets each makes those formats of the list that it has.
    formats = tuple(form for form in config.export.formats if form in target.formats)
    if config.export.formats and not formats:
        formats = (target.runtime,)
    export = config.export.model_copy(update={"formats": formats})
    if config.export.allow_fallbacks:
        target = target.model_copy(update={"allow_fallbacks": True})
    # The other targets and their budgets change nothing of this one's build, and stay out of its key.
    update = {
        "target": target.name,
        "targets": (),
        "budget": budget,
        "budgets": {},
        "one_student": False,
        "export": export,
    }
    return Order(config.model_copy(update=update), target, base, out, how)


@dataclass(frozen=True)
class _Replaced:
    """`Changes`, read."""

    budget: BudgetRequest | None = None
    trials: int | None = None
    time_ms: float | None = None


def _read(changes: Changes) -> _Replaced:
    """Raises InputError naming every option that is wrong."""
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
        problems.append(Problem("--time", error.message, "write it like 90s, 4m, 2h or 1h30m"))
    if problems:
        raise wrong_options(problems)
    return _Replaced(budget, changes.trials, time_ms)


def _changed(config: BuildConfig, replaced: _Replaced, changes: Changes) -> BuildConfig:
    wanted = (("trials", replaced.trials), ("time", replaced.time_ms))
    search = {name: value for name, value in wanted if value is not None}
    return config.model_copy(
        update={
            "search": config.search.model_copy(update=search),
            "data": config.data.model_copy(update={"skip_broken": config.data.skip_broken or changes.skip_broken}),
            "budget": config.budget if replaced.budget is None else replaced.budget,
        }
    )
