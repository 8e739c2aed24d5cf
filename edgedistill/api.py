"""`edgedistill.build`, `profile`, `calibrate` and the others: what the command line calls, for Python.

Nothing here imports torch at module level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill import building
from edgedistill.building import ExecutorKind, Means, make_folder
from edgedistill.documents import (
    EvaluateResult,
    ExportResult,
    InspectResult,
    Plan,
    QuantizeResult,
    RunResult,
    VerifyResult,
)
from edgedistill.errors import Collected, InputError, Problem, wrong_options
from edgedistill.explained import ExplainResult
from edgedistill.jobs import Changes, How, Job, jobs_of
from edgedistill.progress import Listener, silent
from edgedistill.results import BuildIndex, BuildResult, ProfileResult, SearchResult
from edgedistill.store import Store
from edgedistill.targets import load_target

if TYPE_CHECKING:
    from edgedistill.latency.profile import DeviceProfile
    from edgedistill.latency.profiles import ProfilesResult


def build(
    path: Path | str,
    *,
    target: str | Path | None = None,
    budget: str | None = None,
    out: Path | str | None = None,
    require_measured: bool = False,
    remeasure: bool = False,
    keep_teacher: bool = True,
    trials: int | None = None,
    time: str | None = None,
    jobs: int = 1,
    executor: str = "local",
    storage: str | None = None,
    listener: Listener = silent,
) -> BuildResult:
    """Run the build that the file at `path` describes and return what `OUT/build.json` holds.

    `target` (a name or the path of a TOML file), `budget` (`"5ms@p95"`, `"20%"`), `trials` and `time` (`"2h"`) replace those
    of the file; `out` is `out/` beside it unless given. `jobs` students train at a time, here or (`executor="ray"`) on a
    Ray cluster; `storage` is Optuna's, a journal file or a database URL. With nothing changed since the last build in
    `out`, returns its result at once; with `remeasure` all measurements are taken again, and the proof stands beside the one
    before. The teacher's fp32 file lies in `out` as well, unless `keep_teacher` is off. A budget that is not met is a result
    (`status == "not_met"`), not an exception.
    Raises InputError for bad input and UnreachableError if `require_measured` and the device does not answer.
    """
    changes = Changes(budget, trials, time)
    using, found = _asked(
        path, _one(target), changes, out, How(require_measured, remeasure, keep_teacher), jobs, executor, storage
    )
    return building.build(_only(path, found), using, listener)[0]


def build_all(
    path: Path | str,
    *,
    targets: Sequence[str | Path] = (),
    one_student: bool = False,
    budget: str | None = None,
    out: Path | str | None = None,
    require_measured: bool = False,
    remeasure: bool = False,
    keep_teacher: bool = True,
    trials: int | None = None,
    time: str | None = None,
    jobs: int = 1,
    executor: str = "local",
    storage: str | None = None,
    listener: Listener = silent,
) -> BuildResult | BuildIndex:
    """`build` for each of `targets`, else of the file's. For several, each goes into a folder of its name in `out`, and what
    is returned is their index, `OUT/build.json`; for one, its result as `build` returns it. With `one_student` the same
    student is searched for all of them: each file of it is proven on its own target."""
    changes = Changes(budget, trials, time, one_student)
    using, found = _asked(
        path, targets, changes, out, How(require_measured, remeasure, keep_teacher), jobs, executor, storage
    )
    return (
        building.build_each(found, using, listener) if _several(found) else building.build(found[0], using, listener)[0]
    )


def plan(
    path: Path | str,
    *,
    targets: Sequence[str | Path] = (),
    one_student: bool = False,
    budget: str | None = None,
    trials: int | None = None,
    time: str | None = None,
) -> Plan:
    """What `build_all` would try and what that would cost, as far as it can be told with nothing trained or measured."""
    from edgedistill.planning import plan_of

    changes = Changes(budget, trials, time, one_student)
    return plan_of(jobs_of(Path(path), _names(targets), changes, None))


def search(
    path: Path | str,
    *,
    target: str | Path | None = None,
    budget: str | None = None,
    out: Path | str | None = None,
    require_measured: bool = False,
    remeasure: bool = False,
    trials: int | None = None,
    time: str | None = None,
    jobs: int = 1,
    executor: str = "local",
    storage: str | None = None,
    listener: Listener = silent,
) -> SearchResult:
    """`build` that stops before anything is shipped; returns what `OUT/search.json` holds. Processes that share `storage`
    and the cache share the work."""
    changes = Changes(budget, trials, time)
    using, found = _asked(path, _one(target), changes, out, How(require_measured, remeasure), jobs, executor, storage)
    return building.search(_only(path, found), using, listener)[0]


def search_all(
    path: Path | str,
    *,
    targets: Sequence[str | Path] = (),
    one_student: bool = False,
    budget: str | None = None,
    out: Path | str | None = None,
    require_measured: bool = False,
    remeasure: bool = False,
    trials: int | None = None,
    time: str | None = None,
    jobs: int = 1,
    executor: str = "local",
    storage: str | None = None,
    listener: Listener = silent,
) -> SearchResult | BuildIndex:
    """`build_all` that stops before anything is shipped; the index of several targets is `OUT/search.json`."""
    changes = Changes(budget, trials, time, one_student)
    using, found = _asked(path, targets, changes, out, How(require_measured, remeasure), jobs, executor, storage)
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
    changes: Changes,
    out: Path | str | None,
    how: How,
    jobs: int,
    executor: str,
    storage: str | None,
) -> tuple[Means, tuple[Job, ...]]:
    """What a search is done with, and the jobs of a build file. Raises InputError with all that is wrong with either."""
    wrong = Collected()
    with wrong:
        using = means(jobs, executor, storage)
    with wrong:
        folder = None if out is None else Path(out)
        found = jobs_of(Path(path), _names(targets), changes, folder, how)
    wrong.raise_any()
    return using, found


def _names(targets: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(map(str, targets))


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


def profile(
    path: Path | str,
    *,
    target: str | Path = "host",
    sessions: int = 3,
    beside: Path | str | None = None,
    listener: Listener = silent,
) -> ProfileResult:
    """Measure any ONNX, LiteRT or ExecuTorch file on `target`, `sessions` times; returns latency, memory and operators. With
    `beside`, another file of the same format, the two run in turn and the result has the ratio of their latencies.

    Raises InputError for a file that is none of these, UnreachableError where the target's device does not answer.
    """
    from edgedistill.profiling import profile_file

    other = None if beside is None else Path(beside)
    return profile_file(Path(path), load_target(str(target)), listener, sessions, other)


def calibrate(
    target: str | Path = "host",
    *,
    models: int = 20,
    families: str = "",
    resolutions: str = "",
    precisions: str = "",
    out: Path | str | None = None,
    listener: Listener = silent,
) -> DeviceProfile:
    """Measure `models` students with random weights on `target` and write what latency models are fitted from to `out`, a
    file in the user's data folder unless given. `families`, `resolutions` and `precisions` are lists with commas; empty
    ones are a build's own families, inputs of 32 to 224 pixels and the target's precisions. A calibration that was stopped
    goes on from the cache.

    Raises InputError for bad input, UnreachableError where the target's device does not answer or nothing measures on it,
    UnsupportedError where no file could be made.
    """
    from edgedistill.calibrating import Asked, calibrate_target
    from edgedistill.latency.profiles import own_path

    chosen = load_target(str(target))
    asked = Asked.parse(models, families, resolutions, precisions)
    path = Path(out).absolute() if out is not None else own_path(chosen, asked.precisions or chosen.precisions)
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, not a file to write the profile to", fix=f"--out {path / 'profile.json'}"
        )
    make_folder(path.parent)
    profile = calibrate_target(chosen, asked, Store(listener=listener))
    profile.save(path)
    return profile


def profiles() -> ProfilesResult:
    """The device profiles that come with edgedistill and the user's own, and in what this machine differs from those of its
    targets."""
    from edgedistill.latency.profiles import list_profiles

    return list_profiles()


def export(
    model: str,
    *,
    out: Path | str,
    formats: str = "onnx",
    precisions: str = "fp32",
    checkpoint: Path | None = None,
    classes: int | None = None,
    resolution: int | None = None,
    mean: str | None = None,
    std: str | None = None,
    labels: Path | None = None,
    random_weights: bool = False,
    data: str | None = None,
    target: str | Path = "host",
    verify: bool = True,
    listener: Listener = silent,
) -> ExportResult:
    """Export a model (`timm:NAME`, `module:function`, a .pt2 program or an .onnx file) to the folder `out`, in every format
    of `formats` ("onnx,coreml" or "all") and precision of `precisions`, each file run and compared with the model unless
    `verify` is off. `mean` and `std` are "R,G,B" in 0..1; `data` (see `--data`) calibrates int8. What fails is in the
    result's `failures`. Raises InputError for bad input."""
    import platform

    from edgedistill.data.argument import data_config
    from edgedistill.exporting import CALIBRATION_IMAGES, Wanted, export_source, parse_formats, parse_precisions
    from edgedistill.sources import ModelOptions, calibration_images, open_model

    chosen = load_target(str(target))
    config = None if data is None else data_config(data)
    options = ModelOptions.of(checkpoint, classes, resolution, mean, std, labels, random_weights)
    wanted = Wanted(
        formats=parse_formats(formats),
        precisions=parse_precisions(precisions),
        target=chosen,
        machine=chosen.machine or platform.machine(),
        out=Path(out),
        verify=verify,
    )
    if model.endswith(".onnx"):
        from edgedistill.exporting_onnx import export_onnx_file

        return export_onnx_file(Path(model), options, config, wanted, listener)
    source, notes = open_model(model, options, Path.cwd())
    if config is not None:
        wanted = replace(wanted, calibration=calibration_images(config, source.contract, CALIBRATION_IMAGES))
    return export_source(source, notes, wanted, listener)


def quantize(
    model: str,
    *,
    data: str,
    out: Path | str = "quantized",
    max_loss: str = "0.5%",
    formats: str = "onnx",
    also: str = "fp16",
    checkpoint: Path | None = None,
    classes: int | None = None,
    resolution: int | None = None,
    mean: str | None = None,
    std: str | None = None,
    target: str | Path = "host",
    listener: Listener = silent,
) -> QuantizeResult:
    """Quantise a model (what `export` takes) to int8, or as much of it as loses no more than `max_loss` of its accuracy on
    `data` (see `--data`), by the first rung of the ladder that does in each format of `formats`; winners are written to
    `out`. `also` are precisions tried beside ("fp16,int8-weights"). Raises InputError for bad input."""
    from edgedistill.exporting import parse_formats
    from edgedistill.ladder import Margins
    from edgedistill.quantizing import Asked, quantize_model, with_beside
    from edgedistill.sources import ModelOptions
    from edgedistill.units import parse_fraction

    options = ModelOptions.of(checkpoint, classes, resolution, mean, std)
    margins = Margins(max_loss=parse_fraction(max_loss))
    asked = with_beside(Asked(parse_formats(formats), load_target(str(target)), Path(out), margins), also)
    return quantize_model(model, options, data, asked, listener=listener)


def inspect(path: Path | str, *, target: str | Path = "host") -> InspectResult:
    """What is in a model file of any format, without running it. Raises InputError for one that cannot be read."""
    from edgedistill.examining import inspect_file

    return inspect_file(Path(path), load_target(str(target)))


def verify(path: Path | str, *, against: Path | str | None = None, target: str | Path = "host") -> VerifyResult:
    """Whether a model file is whole and computes what its package's golden data or the file `against` say. Raises
    InputError for files that cannot be read or compared."""
    from edgedistill.examining import verify_file

    return verify_file(Path(path), None if against is None else Path(against), load_target(str(target)))


def evaluate(
    path: Path | str, *, data: str, split: str = "test", limit: int | None = None, target: str | Path = "host"
) -> EvaluateResult:
    """Accuracy of a model file on a split ("train", "validation", "test") of `data` (see `--data`), of its first `limit`
    images. Raises InputError."""
    from edgedistill.examining import evaluate_file

    return evaluate_file(Path(path), data, split, limit, load_target(str(target)))


def run(path: Path | str, image: Path | str, *, top: int = 5, target: str | Path = "host") -> RunResult:
    """The `top` most probable classes of an image file, by a model file and its contract. Raises InputError."""
    from edgedistill.examining import run_file

    return run_file(Path(path), Path(image), top, load_target(str(target)))


def explain(out: Path | str, *, budget: str | None = None, students: int = 10) -> ExplainResult:
    """Why the build in the folder `out` ended as it did: what won, what the next `students` lacked, which operators cost the
    time, what other budgets would give, and `budget` ("3ms", "20%@p99") among them. Raises InputError for a folder without
    a build that this version reads, and for what is no budget."""
    from edgedistill.explanation.explaining import explain_folder

    return explain_folder(Path(out), budget=budget, students=students)
