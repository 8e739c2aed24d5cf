"""The families by name. Importing this imports neither torch nor timm."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import MappingProxyType

from edgedistill.errors import InputError, Problem
from edgedistill.students import (
    convnext,
    efficientformerv2,
    efficientnet_lite,
    fastvit,
    ghostnetv2,
    mobilenetv3,
    mobilenetv4,
    mobileone,
    repvgg,
    repvit,
    resnet,
    vit,
)
from edgedistill.students.family import Family

_MODULES = (
    mobilenetv3,
    mobilenetv4,
    efficientnet_lite,
    ghostnetv2,
    mobileone,
    repvgg,
    repvit,
    fastvit,
    resnet,
    convnext,
    efficientformerv2,
    vit,
)
DEFAULT = ("mobilenetv4", "mobileone", "resnet")
"""The families of a space that names none: inverted bottlenecks, branches that merge into a plain chain, residual blocks."""
FAMILIES = MappingProxyType({module.FAMILY.name: module.FAMILY for module in _MODULES})


def family(name: str) -> Family:
    """The family of that name. Raises InputError, with a suggestion, where there is none."""
    return families([name])[0]


def families(names: Iterable[str]) -> tuple[Family, ...]:
    """The families of these names, in this order; those of DEFAULT for no names. Raises InputError naming every unknown
    one."""
    wanted = tuple(names) or DEFAULT
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
