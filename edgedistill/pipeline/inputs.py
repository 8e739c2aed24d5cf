"""What a build file names, before anything is loaded: what is missing or wrong there, told at once.

Nothing here imports torch, and timm only where its source leaves a name open: a mistake in a build file is told at once.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from edgedistill.base.errors import Collected, InputError, MissingDependencyError
from edgedistill.base.paths import require_file
from edgedistill.data.content import require_folder
from edgedistill.distill.start import start_of
from edgedistill.distill.teachers.checkpoint_file import require_whole
from edgedistill.distill.teachers.identity import find_module, require_weights
from edgedistill.distill.teachers.places import EXTRAS, folder_of, of_teacher, onnx_path, outputs_path, require_library
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.recipes import TermConfig
from edgedistill.documents.sections import load_sections
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.documents.toml_lines import line_of
from edgedistill.networks.families.registry import TIMM, families, installed
from edgedistill.networks.timm_names import require_model

_VECTORS = "name a .npy or .npz file of a vector for each class"


def check_inputs(path: Path) -> None:
    """See that what the build file at `path` names is there: the data's folder, the teachers with their weights, the
    families and weights of students, the losses of `[[train.terms]]`. A section that is wrong itself is passed over: of that
    `load_config` tells. The data are not read. torch is imported where there are terms, for their losses may be another
    package's. Raises InputError with all that is wrong."""
    sections, text = load_sections(path)
    base, wrong = path.parent.absolute(), Collected()
    with wrong:
        if (data := sections.data) is not None and data.source != "digits" and data.path is not None:
            require_folder(data.path, "the data folder")
    for number, teacher in enumerate(sections.teachers):
        if teacher is not None and sections.task is not None:
            _check_teacher(teacher, number, base, wrong, vectors=sections.task == "embedding")
    with wrong:
        if sections.embedding is not None and sections.embedding.class_vectors is not None:
            require_file(sections.embedding.class_vectors, _VECTORS)
    if sections.space is not None:
        _check_space(sections.space, wrong)
    with wrong:
        _check_terms(sections.terms, path, text)
    with wrong:
        _check_processes(sections.processes)
    wrong.raise_any()


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
    with wrong, of_teacher(number):
        if config.text_vectors is not None:
            require_file(config.text_vectors, _VECTORS)


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


def _check_terms(terms: Sequence[TermConfig | None], path: Path, text: str) -> None:
    places = [f"{path}:{line_of(text, ('train', 'terms', n))}: [[train.terms]] {n + 1}" for n in range(len(terms))]
    right = {place: term for place, term in zip(places, terms, strict=True) if term is not None}
    if not right:
        return
    from edgedistill.distill.recipes.losses import bound, problems_of

    if problems := problems_of(right):
        raise InputError("the recipe cannot be used", problems=problems)
    if len(right) == len(terms):
        bound(tuple(right.values()))


def _check_processes(processes: int | None) -> None:
    if processes is not None and processes > 1 and importlib.util.find_spec("accelerate") is None:
        raise MissingDependencyError(
            "[train] processes: more than one needs the package accelerate",
            fix="pip install 'edgedistill[accelerate]', or leave it out",
        )
