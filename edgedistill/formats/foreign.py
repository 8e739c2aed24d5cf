"""A model file of any format from anywhere, as an artifact that its runtime takes.

What reads a foreign file runs in a child process: `reading` is how.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from edgedistill.base.errors import CONTROLS, InputError, Problem, TrialFailure
from edgedistill.base.isolation import ChildBug, ChildFailure, Limits, in_child
from edgedistill.base.paths import nearest
from edgedistill.documents.specs import Contract, Format, Target
from edgedistill.formats import SHIPPED, format_for
from edgedistill.formats.format import Opened
from edgedistill.networks.tasks import class_vectors

P = ParamSpec("P")
R = TypeVar("R")

LARGEST_RESOLUTION = 2048
_HOSTILE = "the file is damaged or hostile; export it again from its model"
_EXPORT_AGAIN = "export it again from its model"


def format_of(path: Path) -> Format:
    """The format that a file's name says. Raises InputError for another, or a file that is not there."""
    formats = {suffix: form for form in SHIPPED for suffix in format_for(form).suffixes}
    form = formats.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path} is no model file by its name", fix=f"give one that ends in {', '.join(formats)}")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", fix=nearest(path, "check the path")) from None
    except OSError as error:  # a name too long, links in a circle, no permission
        raise InputError(f"{path} cannot be opened: {error.strerror}", fix="check the path") from None
    wanted, name = (stat.S_ISDIR, "a folder") if format_for(form).is_folder else (stat.S_ISREG, "a file")
    if not wanted(mode):
        raise InputError(f"{path} is not {name}, and a {path.suffix} is one", fix="export it again, or name another")
    return form


def reading(path: Path, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`function` in a child with the limits of a file like `path`. Raises InputError for a path that is no model file, and
    as `reading_within` does."""
    format_of(path)
    return reading_within(path, Limits.for_file(path), function, *args, **kwargs)


def reading_within(path: Path, limits: Limits, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`function`, which reads the file at `path`, in a child with these limits. Raises InputError where the child does not
    come back, where the file does not do what it should, or where something raises what is not expected: many readers
    do on damaged files. The file is at fault, as far as anyone can tell."""
    try:
        return in_child(f"reading {path.name}", limits, function, *args, **kwargs)
    except ChildFailure as failure:
        raise InputError(f"{path} cannot be read: {failure.message}", fix=failure.fix or _HOSTILE) from failure
    except TrialFailure as failure:
        raise InputError(failure.message, problems=failure.problems, fix=failure.fix or _HOSTILE) from failure
    except ChildBug as error:
        raise InputError(f"{path} cannot be read: {error.summary}", fix=_HOSTILE) from error


def open_file(path: Path, target: Target) -> Opened:
    """Read a model file. Raises InputError where it is damaged or not what its name says, MissingDependencyError where the
    package that reads its format is absent."""
    try:
        opened = format_for(format_of(path)).open(path, target)
    except InputError as error:
        if error.fix or error.problems:
            raise
        raise InputError(error.message, fix=_EXPORT_AGAIN) from error
    if opened.contract is not None and (problems := list(_implausible(opened.contract))):
        raise InputError(f"{path}: the contract in its metadata cannot be kept", problems=problems, fix=_EXPORT_AGAIN)
    return opened


def _implausible(contract: Contract) -> Iterator[Problem]:
    """What cannot be true of a model. A program that believed it would ask for memory without end, or print control
    characters."""
    if not 1 <= contract.resolution <= LARGEST_RESOLUTION:
        yield Problem("resolution", f"{contract.resolution} is not between 1 and {LARGEST_RESOLUTION}")
    if not contract.labels and contract.vector is None:
        yield Problem("labels", "names no class")
    if any(CONTROLS.search(label) for label in contract.labels):
        yield Problem("labels", "holds characters that are no text and drive a terminal")
    if (vectors := class_vectors(contract)) is not None and not np.isfinite(vectors).all():
        yield Problem("class_vectors", "are not finite")
    if not all(math.isfinite(value) for value in contract.mean):
        yield Problem("mean", "is not finite")
    if not all(math.isfinite(value) and value > 0 for value in contract.std):
        yield Problem("std", "is not above zero and finite")
