"""Targets by name or by path: the TOML files of `targets/`, validated, with the line of every problem. They are data."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.packed import packed
from edgedistill.documents.build_file import load_toml, validate
from edgedistill.documents.fields import is_target_path
from edgedistill.documents.specs import Format, Target
from edgedistill.documents.toml_lines import line_of


def targets_folder() -> Path:
    """Where the targets that come with edgedistill lie."""
    return packed("targets")


def target_names() -> tuple[str, ...]:
    """Names of the targets that come with edgedistill, `host` first."""
    names = sorted(path.stem for path in targets_folder().glob("*.toml"))
    return tuple(sorted(names, key=lambda name: name != "host"))


def all_targets() -> tuple[Target, ...]:
    """Every target that comes with edgedistill, in the order of `target_names`."""
    return tuple(load_target(name) for name in target_names())


def target_with(form: Format, near: Target) -> Target | None:
    """A target that comes with edgedistill and has `form` among its formats: first of all one that is reached as `near` is,
    then one of which `form` is the runtime. None where there is none."""
    having = [target for target in all_targets() if form in target.formats]
    return min(having, key=lambda t: (t.transport != near.transport, t.runtime is not form), default=None)


def target_file(name_or_path: str | Path) -> Path:
    """The TOML file of a target, given as to `load_target`."""
    given = str(name_or_path)
    return Path(os.path.expanduser(given)) if is_target_path(given) else targets_folder() / f"{given}.toml"  # noqa: PTH111


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name, or of that TOML file (a value that ends with `.toml` or has a slash is a path). Raises
    InputError for an unknown name, with the nearest one, and for a file with problems, with all their lines."""
    given = str(name_or_path)
    if not is_target_path(given) and given not in target_names():
        near = difflib.get_close_matches(given.lower(), target_names(), 1)
        fix = "`edgedistill targets` lists them; a TOML file of your own is given by its path, e.g. ./my-board.toml"
        if Path(f"{given}.toml").is_file():
            fix = f"did you mean the file ./{given}.toml?"
        elif near:
            fix = f"did you mean {near[0]}? {fix}"
        raise InputError(f"unknown target {given!r}", fix=fix)
    return _read(target_file(given))


def _read(path: Path) -> Target:
    content, text = load_toml(path, "the target")
    target = validate(Target, content, text, path)
    if target.runtime not in target.formats:
        listed = ", ".join(target.formats)
        problem = Problem(
            f"{path}:{line_of(text, ['formats'])}",
            f"formats ({listed}) lack the target's own runtime {target.runtime}",
            f"add {target.runtime}",
        )
        raise InputError(f"{path.name} has 1 problem", problems=[problem])
    return target
