"""What a build file names, before anything is loaded: what is missing or wrong there, told at once.

Nothing here imports torch, and timm only where its source leaves a name open: a mistake in a build file is told at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from pathlib import Path

from pydantic import ValidationError

from edgedistill.base.errors import Collected, InputError, MissingDependencyError
from edgedistill.base.paths import require_file
from edgedistill.data.content import require_folder
from edgedistill.distill.start import start_of
from edgedistill.distill.teachers.checkpoint_file import require_whole
from edgedistill.distill.teachers.identity import find_module, require_weights
from edgedistill.distill.teachers.places import EXTRAS, folder_of, of_teacher, onnx_path, outputs_path, require_library
from edgedistill.documents.build_file import BuildConfig, SpaceConfig, load_toml
from edgedistill.documents.recipes import TermConfig
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.documents.toml_lines import line_of
from edgedistill.networks.families.registry import TIMM, families, installed
from edgedistill.networks.timm_names import require_model


def check_inputs(config: BuildConfig, base: Path) -> None:
    """See that the data's folder, the teacher with its weights, and the families and weights of students are there, for a
    build file that lies in the folder `base`. The data are not read. Raises InputError with all that is wrong."""
    wrong = Collected()
    with wrong:
        if config.data.source != "digits" and config.data.path is not None:
            require_folder(config.data.path, "the data folder")
    for number, teacher in enumerate(config.all_teachers):
        _check_teacher(teacher, number, base, wrong, vectors=config.task == "embedding")
    if config.class_vectors is not None:
        with wrong:
            require_file(config.class_vectors, "name a .npy or .npz file of a vector for each class")
    _check_space(config.space, wrong)
    with wrong:
        if config.train.processes > 1 and importlib.util.find_spec("accelerate") is None:
            raise MissingDependencyError(
                "[train] processes: more than one needs the package accelerate",
                fix="pip install 'edgedistill[accelerate]', or leave it out",
            )
    wrong.raise_any()


def check_terms(path: Path) -> None:
    """See that the terms of `[[train.terms]]` can be used, whatever else is wrong with the build file at `path`: what
    `load_config` says of it is not said again. torch is imported where there are such terms, for their losses may be
    another package's. Raises InputError with all that is wrong."""
    content, text = load_toml(path, "the build file")
    train = content.get("train")
    given = train.get("terms") if isinstance(train, dict) else None
    terms: dict[str, TermConfig] = {}
    for number, term in enumerate(given if isinstance(given, list) else ()):
        with contextlib.suppress(ValidationError, TypeError):  # of which `load_config` tells; JSON has no dates
            found = TermConfig.model_validate_json(json.dumps(term), strict=True)
            terms[f"{path}:{line_of(text, ('train', 'terms', number))}: [[train.terms]] {number + 1}"] = found
    if not terms:
        return
    from edgedistill.distill.recipes.losses import bound, problems_of

    if problems := problems_of(terms):
        raise InputError("the recipe cannot be used", problems=problems)
    if isinstance(given, list) and len(terms) == len(given):
        bound(tuple(terms.values()))


def require_place(out: Path) -> None:
    """See that the output folder is there or can be made, and can be written to; nothing is made. Raises InputError."""
    nearest = next(place for place in (out, *out.parents) if place.exists())
    if not nearest.is_dir():
        what = "is a file" if nearest == out else f"cannot be made: {nearest} is a file"
        raise InputError(f"the output folder {out} {what}", fix="use --out DIR")
    if not os.access(nearest, os.W_OK):
        what = "cannot be written to" if nearest == out else f"cannot be made: {nearest} cannot be written to"
        raise InputError(f"the output folder {out} {what}", fix="use --out DIR")


def _check_teacher(config: TeacherConfig, number: int, base: Path, wrong: Collected, *, vectors: bool) -> None:
    library, _, name = config.model.partition(":")
    with wrong, of_teacher(number):
        if library == "timm":
            require_model(name, "[teacher] model")
        elif (path := onnx_path(config.model, base)) is not None:
            require_file(path, "name an .onnx file")
        elif (path := outputs_path(config.model, base)) is not None:
            require_file(path, "name a .npy, .csv or .parquet file")
        elif library in EXTRAS:
            require_library(library)
            folder_of(name, base)
        else:
            find_module(library, base)
    with wrong, of_teacher(number):
        require_weights(config, vectors=vectors)
    with wrong, of_teacher(number):
        if config.checkpoint is not None:
            require_whole(config.checkpoint)


def _check_space(config: SpaceConfig, wrong: Collected) -> None:
    with wrong:
        # Those of installed packages are loaded when they are needed: what they import may take long.
        families([name for name in config.families if name not in installed().names])
    for name in config.models:
        with wrong:
            require_model(name.removeprefix(TIMM), "[space] models")
        with wrong:
            if (start := start_of(config, name)) is not None:
                require_whole(start.checkpoint)
