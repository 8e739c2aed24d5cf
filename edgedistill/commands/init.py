"""The build file that `edgedistill init` writes: the answers filled in, everything else a comment with its default."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.paths import nearest
from edgedistill.base.store import write_atomic
from edgedistill.documents.build_file import validate
from edgedistill.documents.fields import is_target_path
from edgedistill.documents.specs import BudgetRequest
from edgedistill.documents.targets import load_target
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.networks.timm_names import require_model

Source = Literal["digits", "folder", "idx", "huggingface"]


@dataclass(frozen=True)
class InitAnswers:
    """What `init` asks. `data` is `digits`, a folder, or `hf:NAME`; `teacher` is `timm:NAME` or `module:function`."""

    data: str = "digits"
    teacher: str = ""
    target: str = "host"
    budget: str = "20%@p95"


def data_source(data: str) -> tuple[Source, str]:
    """Where the data comes from, and its path or name: `digits`, `hf:NAME` or a folder (of IDX files, of a data set saved
    with `save_to_disk`, or of images by class, by what lies in it). Raises InputError for anything else."""
    if data == "digits":
        return "digits", ""
    if data.startswith("hf:") and len(data) > 3:
        return "huggingface", data.removeprefix("hf:")
    folder = Path(os.path.expanduser(data))  # noqa: PTH111 - leaves `~nobody` alone where pathlib's raises
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.is_file() else "does not exist"
        fix = nearest(Path(data), "give a folder of images by class, digits, or hf:NAME")
        raise InputError(f"the data folder {data} {what}", fix=fix)
    if any(folder.glob("*idx*-ubyte*")):
        return "idx", data
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        return "huggingface", data
    return "folder", data


def default_teacher(data: str) -> str:
    """A teacher that suits the data: small for the embedded digits, a strong pretrained one for images."""
    return "timm:resnet18" if data == "digits" else "timm:resnet50"


def write_build_file(path: Path, answers: InitAnswers, *, force: bool = False) -> None:
    """Write a build file whole or not at all. Raises InputError for wrong answers and for a file that is there already,
    unless `force`."""
    if path.exists() and not force:
        raise InputError(f"{path} is there already", fix="name another file, or overwrite it with --force")
    text = build_file(answers, path.parent)
    try:
        write_atomic(path, text)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}", fix="name a file in a folder of yours"
        ) from None


def build_file(answers: InitAnswers, folder: Path) -> str:
    """The text of a build file that will lie in `folder`. Raises InputError naming every wrong answer at once."""
    _check(answers)
    source, place = data_source(answers.data)
    return _TEMPLATE.format(
        target=_quoted(_from_folder(answers.target, folder) if is_target_path(answers.target) else answers.target),
        budget=_quoted(answers.budget),
        teacher=_teacher_lines(answers.teacher or default_teacher(answers.data), source),
        data=_data_lines(source, place, answers.data, folder),
    )


def _check(answers: InitAnswers) -> None:
    problems = []
    checks: dict[str, Callable[[], object]] = {
        "--data": lambda: data_source(answers.data),
        "--teacher": lambda: _check_teacher(answers.teacher),
        "--target": lambda: load_target(answers.target),
        "--budget": lambda: BudgetRequest.parse(answers.budget),
    }
    for option, check in checks.items():
        if option == "--teacher" and not answers.teacher:
            continue
        try:
            check()
        except InputError as error:
            first = next(iter(error.problems), Problem("", error.message, error.fix))
            problems.append(Problem(option, first.what, first.fix))
    if problems:
        raise InputError("no build file was written", problems=problems)


def _check_teacher(model: str) -> None:
    validate(TeacherConfig, {"model": model}, "", Path("--teacher"))
    library, _, name = model.partition(":")
    if library == "timm":
        require_model(name, model)


_CHECKPOINT = '# checkpoint = "teacher.safetensors"  # safetensors, or torch with weights only'


def _teacher_lines(model: str, source: Source) -> str:
    if source == "digits":
        lines = [
            "resolution = 32",
            "fit = {epochs = 20}  # trained from the data: there is no checkpoint for it",
            "# pretrained = false",
            _CHECKPOINT,
        ]
    elif model.startswith("timm:"):
        lines = [
            "pretrained = true",
            "fit = {epochs = 10}  # fine-tuned to your classes; remove it if it knows them",
            "# resolution = 224",
            _CHECKPOINT,
        ]
    else:
        lines = [_CHECKPOINT, "# resolution = 224", "# fit = {epochs = 10}  # trains it on your data first"]
    arguments = "# arguments = {}  # for the function that builds the model"
    return "\n".join([f"model = {_quoted(model)}", *lines, arguments])


def _data_lines(source: Source, place: str, data: str, folder: Path) -> str:
    lines = [f"source = {_quoted(source)}"]
    if source == "huggingface" and data.startswith("hf:"):
        lines += [f"name = {_quoted(place)}", '# image_column = "image"', '# label_column = "label"']
    elif source != "digits":
        lines += [f"path = {_quoted(_from_folder(place, folder))}"]
    return "\n".join(lines)


def _from_folder(path: str, folder: Path) -> str:
    """A path as it reads from the build file's folder; absolute ones and those from the home folder stay."""
    if Path(path).is_absolute() or path.startswith("~"):
        return path
    relative = Path(os.path.relpath(Path(path).absolute(), folder.absolute())).as_posix()
    return relative if "/" in relative or relative == ".." else f"./{relative}"


def _quoted(text: str) -> str:
    """A TOML string. JSON's escapes are TOML's, except that TOML wants DEL escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_TEMPLATE = """\
# A build of edgedistill. Run it with `edgedistill build` and the name of this file.
# Lines that begin with "# name =" show defaults: remove the "# " to change one. Where there is none, they show an
# example. Paths are relative to this file.

# The device: a name from `edgedistill targets`, or the path of a TOML file of your own.
target = {target}
# targets = []  # several in its place, each with a student of its own
# one_student = false  # or one student for all of them

# The latency that the student must stay within at a percentile (p50, p95, p99): milliseconds ("5ms@p95"), or a share
# of the teacher's own latency on that device ("20%@p95").
budget = {budget}
# budgets = {{}}  # of single targets: {{"pixel-6" = "8ms@p50"}}

# Which student wins of those inside all limits: the most accurate, or with "latency" the fastest.
# objective = "quality"

# What students are for: "classification", or "embedding" for vectors that are compared with one another.
# task = "classification"

# The model that the students learn from: timm:NAME, transformers:NAME or open_clip:NAME (also folders), onnx:FILE,
# outputs:FILE of what it said of each image, or module:function that returns an nn.Module.
[teacher]
{teacher}

# Further teachers: a table [[teachers]] for each, with the same keys. Students learn the mean of what all say.
[ensemble]
# weights = "equal"  # "fitted" to the validation split, or a number for each
# drop = 0.0  # share of views that each teacher is left out of
# seed = 0

# What the shipped file keeps beside the budget. The fastest student needs a min_quality.
[limits]
# max_size = "2MiB"  # example
# max_memory = "64MiB"  # example: of a process that runs the file, the runtime's own included
# min_quality = "90%"  # example: of the validation split

# The images. digits, folder (one folder of images a class, or train, validation and test of such), idx, huggingface.
[data]
{data}
# background = "white"  # behind what is transparent; or "grey", "black", "#rrggbb"
# skip_broken = false  # true leaves out images that cannot be used, in place of an error
# crop = "stretch"  # or "center"
# resize_filter = "bilinear"  # or "bicubic"
# decoded_cache = "8GB"  # images kept decoded, at the size that models need; or "off"

# How validation and test are drawn where the data does not give them. The test split gives final figures alone.
[data.split]
# seed = 0
# validation = 0.15
# test = 0.15

# What the students see of each image. Flips are off unless asked for: a mirrored digit is no digit.
[augmentation]
# views = "auto"  # or stored views of each image, such as 4; "auto" takes more where images are few
# scale = [0.7, 1.0]
# ratio = [0.8, 1.25]
# flip = false
# operations = 1
# magnitude = 0.3
# mix = 0.2  # example: share of views blended with another image; what the recipe asks for by default
# mix_alpha = 0.2
# cutmix = 0.0
# seed = 0

# Narrows what may be tried; an empty list leaves everything.
[space]
# families = []
# widths = []
# depths = []
# resolutions = []
# kernels = []  # and expansions: empty leaves each family its own one
# expansions = []
# models = []  # timm:NAME, whole and cut down
# pretrained = "auto"  # whether those start from timm's weights
# checkpoints = {{}}  # or from files: {{"timm:NAME" = "student.safetensors"}}
# max_parameters = 1_000_000  # example
# max_bytes = "1MiB"  # example: of the weights in the smallest precision

[train]
# recipe = "default"  # chosen by data and teacher; or one of `edgedistill recipes`; "labels" asks no teacher
# terms = []  # or a recipe of your own in its place: [[train.terms]]
# assistant = "auto"  # whether a student of a size between may teach the others
# min_confidence = "0%"  # of the teacher, in images without a label; those below are left out
# min_agreement = "0%"  # between their views, likewise
# batch_size = "auto"  # 128; less where images are few
# learning_rate = "auto"  # by family and width
# weight_decay = 0.02
# warmup_epochs = 1.0
# ema_decay = 0.99
# device = "auto"  # cuda, mps or cpu
# processes = 1  # 2 train one student together, on a GPU each where there are GPUs
# mixed_precision = "auto"  # or "off"
# workers = "auto"
# threads = "auto"
# checkpoint_seconds = 30.0
# seed = 0

# Of task = "embedding" alone: how vectors are judged.
[embedding]
# score = "auto"  # "retrieval", or "neighbours" without labels; "knn"; "zero_shot" with class_vectors, a file

# Successive halving: so many candidates are trained to the first rung (epochs), the best go on to the next; then again,
# while an untried one may do better, with so many trials at most.
[search]
# probes = 8
# candidates = 8
# rungs = [4, 8, 16]  # example: epochs, or ["500 steps", "1000 steps"]; by default these, and more where images are few
# keep = 0.5
# trials = 24
# time = "2h"  # example: no further candidates begin after so long
# quality_margin = "0.5%"  # the fastest wins that is no less accurate than the best by more than this
# folds = 5  # example: recipes and finalists are compared by cross-validation of so many parts, where images are few
# warm_start = false  # true begins with students that earlier searches trained

# A precision is shipped only if it gains enough: so much faster or smaller than fp32, and no more quality lost than this.
[export]
# formats = []
# precisions = []
# margin_speed = "5%"
# margin_size = "10%"
# max_quality_loss = "1%"
# calibration_images = 256
# allow_fallbacks = false

# What the package tells of the model: in its card, and in the metadata of its files. What you leave out is not guessed.
[package]
# name = ""
# description = ""
# author = ""
# license = ""  # an SPDX identifier such as "apache-2.0", or a name
# version = ""
# dataset = ""  # and base_model: names on the Hugging Face hub
# base_model = ""
# none_of_these = "5%"  # example: an answer for other pictures, which costs such a share of the right answers

# How latency is measured; every run counts. A file is compared with a fixed network, in turn, for "compare"; the proof of
# the winner takes dozens of sessions. "quick" claims that 80% of them keep the budget.
[profile]
# proof = "quick"  # or "standard" (90%), "thorough" (95%)
# session = "3s"
# pause = "500ms"
# compare = "1s"
# burst = "40ms"
# sustained = "1min"  # example: then the winner runs for so long without a pause
"""
