"""`edgedistill.build`, `profile`, `calibrate` and the others: what the command line calls, for Python.

Nothing here imports torch at module level: whether a build has anything to do is decided from hashes before that.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from edgedistill.config import BuildConfig, load_config
from edgedistill.data.fingerprint import fingerprint
from edgedistill.distill.start import start_of
from edgedistill.documents import (
    EvaluateResult,
    ExportResult,
    InspectResult,
    QuantizeResult,
    RunResult,
    VerifyResult,
)
from edgedistill.errors import InputError
from edgedistill.progress import Event, Listener, Note, StageFinished, silent
from edgedistill.results import BuildResult, ProfileResult
from edgedistill.ship.package import verify_package
from edgedistill.specs import BudgetRequest, Target
from edgedistill.store import Store, lock, stage_key
from edgedistill.targets import load_target
from edgedistill.teachers.identity import teacher_identity
from edgedistill.tools import BUILD_TOOLS

if TYPE_CHECKING:
    from edgedistill.latency.profile import DeviceProfile
    from edgedistill.latency.profiles import ProfilesResult

LOG = "stages.jsonl"


def build(
    path: Path | str,
    *,
    target: str | Path | None = None,
    budget: str | None = None,
    out: Path | str | None = None,
    require_measured: bool = False,
    listener: Listener = silent,
) -> BuildResult:
    """Run the build that the file at `path` describes and return what `OUT/build.json` holds.

    `target` (a name or the path of a TOML file) and `budget` (`"5ms@p95"`, `"20%"`) replace those of the file; `out` is
    `out/` beside it unless given. With nothing changed since the last build in `out`, returns its result at once. A
    budget that is not met is a result (`status == "not_met"`), not an exception. Raises InputError for bad input and
    UnreachableError if `require_measured` and the device does not answer.
    """
    path = Path(path)
    config = load_config(path)
    chosen = load_target(str(target or config.target))
    if config.export.allow_fallbacks:
        chosen = chosen.model_copy(update={"allow_fallbacks": True})
    request = BudgetRequest.parse(budget) if budget is not None else config.budget
    base = path.parent.absolute()
    folder = Path(out).absolute() if out is not None else base / "out"
    config = config.model_copy(update={"target": chosen.name, "budget": request})
    key = build_key(config, chosen, base)
    _check_folder(folder)
    with lock(folder / ".lock", listener, f"another build in {folder}"):
        if (found := finished(folder, key)) is not None:
            listener(Note("nothing has changed since this build"))
            return found
        return _run(config, chosen, request, base, folder, key, require_measured, listener)


def _check_folder(out: Path) -> None:
    """Make the output folder. Raises InputError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        writable = os.access(out, os.W_OK)
    except OSError as error:
        raise InputError(f"the output folder {out} cannot be made: {error.strerror}", fix="use --out DIR") from None
    if not writable:
        raise InputError(f"the output folder {out} cannot be written to", fix="use --out DIR")


def build_key(config: BuildConfig, target: Target, base: Path) -> str:
    """What a build depends on: its file, target and budget, the content of its data, its teacher and the weights that
    students start from, this package's source and the versions of its tools."""
    return stage_key(
        {
            "config": config.model_dump(mode="json"),
            "target": target.model_dump(mode="json"),
            "data": fingerprint(config.data),
            "teacher": teacher_identity(config.teacher, base),
            "starts": [start.identity for name in config.space.models if (start := start_of(config.space, name))],
        },
        code=("edgedistill",),
        tools=BUILD_TOOLS,
    )


def finished(out: Path, key: str) -> BuildResult | None:
    """The result in `out` if it is of the build with this key and everything it names is still there, unchanged."""
    try:
        result = BuildResult.model_validate_json((out / "build.json").read_text())
    except (OSError, ValidationError, json.JSONDecodeError):
        return None
    whole = (out / "report.html").is_file() and not verify_package(out, result)
    return result if result.build_key == key and whole else None


def _run(
    config: BuildConfig,
    target: Target,
    request: BudgetRequest,
    base: Path,
    out: Path,
    key: str,
    require_measured: bool,
    listener: Listener,
) -> BuildResult:
    from edgedistill.finish import finish
    from edgedistill.laboratory import Laboratory, goal_of, settings_of
    from edgedistill.preparation import (
        open_bench,
        open_space,
        open_views,
        plausible_multiply_adds,
        prepare_teacher,
        prior_of,
        resolve_budget,
    )
    from edgedistill.report.html import write_report
    from edgedistill.search.search import Search
    from edgedistill.search.study import Study

    began = time.monotonic()
    store = Store(listener=_logged(listener, out / LOG))
    bench = open_bench(config, target, store, base=base, require_measured=require_measured)
    candidates = open_space(bench)
    teacher = prepare_teacher(bench)
    views = open_views(bench, teacher.teacher)
    study = Study(out, key, [candidate.spec for candidate in candidates])
    goal = goal_of(config, resolve_budget(bench, request, teacher))
    search = Search(
        Laboratory(bench, views),
        goal,
        settings_of(config.search),
        candidates,
        study,
        plausible_multiply_adds(teacher, goal.budget),
        prior_of(target),
    )
    result = finish(bench, teacher, views, goal, search.run(), out, build_key=key, began=began)
    write_report(out)
    return result


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


def profile(
    path: Path | str, *, target: str | Path = "host", sessions: int = 3, listener: Listener = silent
) -> ProfileResult:
    """Measure any ONNX, LiteRT or ExecuTorch file on `target`, `sessions` times; returns latency, memory and operators.

    Raises InputError for a file that is none of these, UnreachableError where the target's device does not answer.
    """
    from edgedistill.profiling import profile_file

    return profile_file(Path(path), load_target(str(target)), listener, sessions)


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
    _check_folder(path.parent)
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
