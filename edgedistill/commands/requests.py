"""What `export`, `quantize` and `calibrate` are asked for, looked at before torch is imported: that takes seconds, and a
wrong name is told at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from edgedistill.base.errors import Collected, InputError, Problem, first_line, reworded, wrong_options
from edgedistill.base.paths import require_file
from edgedistill.commands.options import ModelOptions, chosen, listed, require_known
from edgedistill.distill.teachers.checkpoint_file import require_whole
from edgedistill.distill.teachers.identity import find_module
from edgedistill.distill.teachers.places import EXTRAS, OPEN_CLIP, TRANSFORMERS, folder_of, require_library
from edgedistill.documents.fields import parse_percent
from edgedistill.documents.problems import first_fault
from edgedistill.documents.specs import Format, Precision, Target
from edgedistill.documents.targets import load_target
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.formats import SHIPPED, format_for
from edgedistill.networks.families.registry import TIMM
from edgedistill.networks.families.registry import families as families_named
from edgedistill.networks.timm_names import require_model, unknown_model
from edgedistill.pipeline.inputs import require_place

LEAST_MODELS = 4
"""A latency model is not fitted to fewer."""

LIBRARIES = ("timm", *EXTRAS)
"""Those of which a model is named with its weights."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ModelSettings:
    """How a model is opened. `classes`, `resolution`, `mean` and `std` (0..1, as model cards give them) replace the model's
    own; `random_weights` keeps a library's pretrained weights out; `labels` is a text file of one class a line;
    `text_vectors` hold one of each class, from open_clip's text encoder."""

    checkpoint: Path | None = None
    classes: int | None = None
    resolution: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    labels: Path | None = None
    random_weights: bool = False
    text_vectors: Path | None = None

    @classmethod
    def of(cls, options: ModelOptions, wrong: Collected) -> ModelSettings:
        """As a caller gives them, `mean` and `std` as text. Text that is not three levels of a pixel goes to `wrong`, and so
        does one of the two without the other."""
        require_known(options, ModelOptions)
        mean, std = options.get("mean"), options.get("std")
        found: dict[str, Triple | None] = {}
        for option, text, low in (("--mean", mean, -1e-9), ("--std", std, 0.0)):
            with wrong:
                found[option] = None if text is None else _levels(text, option, low)
        with wrong:
            if (mean is None) != (std is None):
                raise InputError("--mean and --std belong together", fix="give both or neither")
        return cls(
            options.get("checkpoint"),
            options.get("classes"),
            options.get("resolution"),
            found.get("--mean"),
            found.get("--std"),
            options.get("labels"),
            options.get("random_weights", False),
            options.get("text_vectors"),
        )


@dataclass(frozen=True)
class ModelRequest:
    """A model that files are wanted of, in `formats`, for `target`, in the folder `out`."""

    model: str
    settings: ModelSettings
    formats: tuple[Format, ...]
    target: Target
    out: Path

    @classmethod
    def of(
        cls, model: str, formats: str, out: Path, options: ModelOptions, done: str, wrong: Collected
    ) -> ModelRequest:
        """As a caller gives it; what is wrong goes to `wrong`. `done` is what is done with the model, `exported` for one."""
        settings = ModelSettings.of(options, wrong)
        forms, target = tuple[Format, ...](), load_target("host")
        with wrong:
            forms = parse_formats(formats)
        with wrong:
            target = load_target(str(options.get("target", "host")))
        with wrong:
            require_place(out)
        with wrong:
            require_openable(model, settings, forms, Path.cwd(), done)
        return cls(model, settings, forms, target, out)


@dataclass(frozen=True)
class CalibrationRequest:
    """What to calibrate: how many models of which students, in which precisions. Empty means the space's, and the target's,
    own."""

    models: int = 20
    families: tuple[str, ...] = ()
    resolutions: tuple[int, ...] = ()
    precisions: tuple[Precision, ...] = ()

    @classmethod
    def parse(cls, models: int, families: str, resolutions: str, precisions: str) -> CalibrationRequest:
        """From lists with commas (`"resnet,vit"`, `"32,64"`, `"fp32,int8"`). Raises InputError for wishes that cannot be,
        all of them at once."""
        sides, names, kinds = listed(resolutions), listed(families), tuple[Precision, ...]()
        problems = []
        if models < LEAST_MODELS:
            problems.append(Problem("--models", f"{models} are too few to fit to", f"{LEAST_MODELS} or more"))
        strange = [side for side in sides if not (side.isdecimal() and 8 <= int(side) <= 1024)]
        problems += [Problem("--resolution", f"{side} is no side of an input", "8 to 1024 pixels") for side in strange]
        models_of_timm = [name for name in names if name.startswith(TIMM)]
        what = "is a model and no family: a device is calibrated by the families"
        problems += [Problem("--family", f"{name} {what}", "leave it out") for name in models_of_timm]
        try:
            families_named(name for name in names if name not in models_of_timm)
        except InputError as error:
            problems += [Problem("--family", problem.what, problem.fix) for problem in error.problems]
        try:
            kinds = parse_precisions(precisions) if listed(precisions) else ()
        except InputError as error:
            problems += error.problems
        if problems:
            raise wrong_options(problems)
        return cls(models, names, tuple(sorted({int(side) for side in sides})), kinds)


def parse_formats(text: str) -> tuple[Format, ...]:
    """`"onnx,coreml"` or `"all"`. Raises InputError naming what is unknown."""
    by_suffix = {suffix.lstrip("."): form.value for form in SHIPPED for suffix in format_for(form).suffixes}
    return SHIPPED if text.strip() == "all" else chosen(text, SHIPPED, "--formats", by_suffix)


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """`"fp32,int8"`. Raises InputError naming what is unknown."""
    return chosen(text, [precision for precision in Precision if precision is not Precision.MIXED], "--precision")


def parse_share(text: str, option: str) -> float:
    """`"1%"` to 0.01. Raises InputError that names the option for what is no percentage, and outside 0% to 100%."""
    try:
        return parse_percent(text)
    except InputError as error:
        raise wrong_options([Problem(option, error.message, error.fix)]) from None


def parse_beside(text: str) -> tuple[Precision, ...]:
    """What is tried beside the ladder: `"fp16,int8-weights"`, or nothing. Raises InputError naming what is unknown."""
    known = (Precision.FP16, Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
    return chosen(text, known, "--also") if listed(text) else ()


def require_openable(model: str, settings: ModelSettings, formats: Sequence[Format], base: Path, done: str) -> None:
    """See that the model is there, with its weights and labels, as far as that is told without torch, and that `formats` can
    be made from it; `module:function` is looked for in the folder `base`. `done` is what is done with the model, `exported`
    for one. Raises InputError with all that is wrong."""
    if model.endswith(".onnx"):
        _require_onnx(Path(model), settings, formats, done)
        return
    wrong = Collected()
    with wrong, in_the_words_of_a_command():
        _require_network(model, settings, base, done)
    with wrong, in_the_words_of_a_command():
        if settings.checkpoint is not None:
            require_whole(settings.checkpoint)
    with wrong:
        if settings.labels is not None:
            read_labels(settings.labels)
    wrong.raise_any()


def teacher_config(model: str, settings: ModelSettings) -> TeacherConfig:
    """The model as a build file would name it. Raises InputError for a name or a resolution that there is not."""
    known = model.partition(":")[0] in LIBRARIES
    pretrained = known and settings.checkpoint is None and not settings.random_weights
    own = {"resolution": settings.resolution, "text_vectors": settings.text_vectors}
    if model.startswith(f"{OPEN_CLIP}:"):
        own["checkpoint"] = settings.checkpoint  # of the tower with its text encoder, from which it is built
    try:
        return TeacherConfig.model_validate({"model": model, "pretrained": pretrained, **own})
    except ValidationError as error:
        raise InputError(first_fault(error), fix="see edgedistill export --help") from error


def read_labels(path: Path) -> tuple[str, ...]:
    """The lines of a text file. Raises InputError for one that cannot be read."""
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}", fix="give a text file") from error


def in_the_words_of_a_command() -> AbstractContextManager[None]:
    """What is raised within names options in the place of the build file's table, which a command line does not have."""

    def bare(text: str) -> str:
        text = text.replace("[teacher] checkpoint", "--checkpoint")
        return text.replace("[teacher] ", "").replace(" in [teacher]", "").replace(" to [teacher]", "")

    return reworded(bare)


def _levels(text: str, option: str, low: float) -> Triple:
    """`"0.485,0.456,0.406"`, each above `low` and at most 1."""
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        fault = Problem(option, f"{text!r} is not three numbers", "write them like 0.485,0.456,0.406")
        raise wrong_options([fault]) from None
    for value in (red, green, blue):
        if not (math.isfinite(value) and low < value <= 1):
            what = f"{value:g} is no level of a pixel in 0..1"
            raise wrong_options([Problem(option, what, "write them as model cards do: 0.485,0.456,0.406")])
    return red, green, blue


def _require_network(model: str, settings: ModelSettings, base: Path, done: str) -> None:
    if model.endswith(".pt2"):
        require_file(Path(model), "name a .pt2 file")
        given = [name for name in ("checkpoint", "classes", "resolution") if getattr(settings, name) is not None]
        if given:
            listed = ", ".join(f"--{name}" for name in given)
            raise InputError(
                f"a .pt2 program has its own weights, classes and resolution: {listed} cannot change them",
                fix=f"leave out {listed}",
            )
        return
    if ":" not in model:
        names = (
            f"give {', '.join(f'{library}:NAME' for library in LIBRARIES)}, module:function, a .pt2 or an .onnx file"
        )
        fix = names if unknown_model(model, model) else f"did you mean timm:{model}?"
        raise InputError(f"{model!r} is not a model that can be {done}", fix=fix)
    library, _, name = teacher_config(model, settings).model.partition(":")
    if library in EXTRAS:
        _require_of_extra(library, name, settings, base)
    elif library == "timm":
        require_model(name, model)
    else:
        find_module(library, base)


def _require_of_extra(library: str, name: str, settings: ModelSettings, base: Path) -> None:
    require_library(library)
    folder_of(name, base)
    if library == TRANSFORMERS and settings.checkpoint is not None:
        raise InputError(
            "--checkpoint: a model of transformers has its weights in its folder", fix="give transformers:FOLDER"
        )
    if settings.text_vectors is not None:
        require_file(settings.text_vectors, "name a .npy or .npz file")
    elif library == OPEN_CLIP and not settings.random_weights:
        raise InputError(
            f"{OPEN_CLIP}:{name} is an image tower, and has no classifier",
            fix="add --text-vectors FILE, or --random-weights to try out formats",
        )


def _require_onnx(path: Path, settings: ModelSettings, formats: Sequence[Format], done: str) -> None:
    problems = [
        Problem(f"--{name.replace('_', '-')}", "cannot change an ONNX file, which has its own")
        for name, value in asdict(settings).items()
        if value
    ]
    problems += [
        Problem(
            f"--formats {form}",
            "is made from a torch model, not from ONNX",
            "give timm:NAME, module:function or a .pt2",
        )
        for form in formats
        if format_for(form).portable is not Format.ONNX
    ]
    wrong = Collected()
    with wrong:
        require_file(path, "name an .onnx file")
    with wrong:
        if problems:
            raise InputError(f"{path} cannot be {done} so", problems=problems)
    wrong.raise_any()
