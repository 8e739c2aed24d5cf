"""Options that several commands have, in one place: names, types, what they do. The command line has the same names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

from edgedistill.base.errors import Problem, wrong_options

Name = TypeVar("Name", bound=StrEnum)


class SearchOptions(TypedDict, total=False):
    """Options of `build` and `search`. Each replaces what the build file says of it.

    - `budget`: `"5ms@p95"`, `"20%"`.
    - `out`: the folder for results; `out/` beside the file unless given.
    - `device`: where the target is measured: its name in the user's file of devices, or its address. It has to answer.
    - `require_measured`: raise UnreachableError where the device does not answer.
    - `remeasure`: take all measurements again; the new proof stands beside the one before.
    - `trials`, `time` (`"2h"`): how many candidates begin at most, and until when.
    - `skip_broken`: leave out images that cannot be used, and say which.
    - `jobs`: students that train at a time, here or (`executor="ray"`) on a Ray cluster.
    - `storage`: Optuna's, a journal file or a database URL. Processes that share it and the cache share the work.
    """

    budget: str | None
    out: Path | str | None
    device: str
    require_measured: bool
    remeasure: bool
    trials: int | None
    time: str | None
    skip_broken: bool
    jobs: int
    executor: str
    storage: str | None


class ProfileOptions(TypedDict, total=False):
    """Options of `profile`.

    - `sessions`: measuring processes, 3 unless given.
    - `compare`: another file of the same format, which runs in turn with the one that is measured.
    - `gate`: a limit that each session has to keep: `"5ms@p95"`, or with `compare` `"105%@p50"`, a share of the other's.
    - `report`: where the page with the samples is written, one HTML file.
    """

    sessions: int
    compare: Path | str | None
    gate: str | None
    report: Path | str | None


class ModelOptions(TypedDict, total=False):
    """Options of `export` and `quantize`: how their model is opened, and what its files are for.

    - `checkpoint`: weights, safetensors or a state dict.
    - `classes`, `resolution`: replace the model's own.
    - `mean`, `std`: its normalisation, `"R,G,B"` in 0..1 as model cards give it.
    - `labels`: a text file of one class a line.
    - `text_vectors`: a vector of each class by open_clip's text encoder, `.npy`, or `.npz` by the names of `labels`.
    - `random_weights`: keep a library's pretrained weights out.
    - `target`: the device that the files are for, by name or as a file; `"host"`, this machine, unless given.
    """

    checkpoint: Path | None
    classes: int | None
    resolution: int | None
    mean: str | None
    std: str | None
    labels: Path | None
    text_vectors: Path | None
    random_weights: bool
    target: str | Path


def require_known(
    options: Mapping[str, Any], kind: type[SearchOptions] | type[ProfileOptions] | type[ModelOptions]
) -> None:
    """Raises TypeError, as a call does, for an option that there is not."""
    for name in options:
        if name not in kind.__annotations__:
            raise TypeError(f"unexpected keyword argument {name!r}; known: {', '.join(kind.__annotations__)}")


def listed(text: str) -> tuple[str, ...]:
    """What stands in a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def chosen(
    text: str, known: Sequence[Name], option: str, others: Mapping[str, str] = MappingProxyType({})
) -> tuple[Name, ...]:
    """The members of `known` that a list with commas, given as `option`, names, in their own order. Raises InputError naming
    what is unknown, and where nothing is named, with the nearest of them; `others` are names that some people have for
    them."""
    names, use = listed(text), f"use {', '.join(known)}"
    problems = []
    for name in (name for name in names if name not in known):
        near = [others[name]] if name in others else difflib.get_close_matches(name, map(str, known), 1)
        problems.append(Problem(option, f"unknown name {name!r}", "".join(f"did you mean {n}? " for n in near) + use))
    if problems or not names:
        raise wrong_options(problems or [Problem(option, "names nothing", use)])
    return tuple(item for item in known if item.value in names)
