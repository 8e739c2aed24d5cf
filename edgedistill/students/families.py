"""The families by name. Importing this imports neither torch nor timm."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import MappingProxyType

from edgedistill.errors import InputError, Problem
from edgedistill.students import mobilenetv4, mobileone, resnet
from edgedistill.students.family import Family

FAMILIES = MappingProxyType({f.name: f for f in (mobilenetv4.FAMILY, mobileone.FAMILY, resnet.FAMILY)})


def family(name: str) -> Family:
    """The family of that name. Raises InputError, with a suggestion, where there is none."""
    return families([name])[0]


def families(names: Iterable[str]) -> tuple[Family, ...]:
    """The families of these names, in this order; all of them for no names. Raises InputError naming every unknown one."""
    wanted = tuple(names) or tuple(FAMILIES)
    problems = [
        Problem("[space] families", f"unknown family {name!r}", _suggest(name))
        for name in wanted
        if name not in FAMILIES
    ]
    if problems:
        raise InputError("the student space names a family that does not exist", problems=problems)
    return tuple(FAMILIES[name] for name in dict.fromkeys(wanted))


def _suggest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), list(FAMILIES), 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(FAMILIES)}"
