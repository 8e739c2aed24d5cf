"""The families by name: those that come with edgedistill, and those of installed packages. Importing this imports neither
torch nor timm."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from itertools import accumulate
from types import MappingProxyType

from edgedistill.base.errors import InputError, Problem
from edgedistill.networks.families import (
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
from edgedistill.networks.families.family import Family

DEFAULT = ("mobilenetv4", "mobileone", "resnet")
"""The families of a space that names none: inverted bottlenecks, branches that merge into a plain chain, residual blocks."""
FAMILIES = MappingProxyType(
    {
        module.FAMILY.name: module.FAMILY
        for module in (
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
    }
)
"""Those that come with edgedistill."""
ENTRY_POINTS = "edgedistill.families"
TIMM = "timm:"
"""Before the name of a model of timm, which is a family of one."""


@cache
def installed() -> EntryPoints:
    """What installed packages provide through the entry point group `edgedistill.families`: each is named after its family
    and is a Family. Nothing is loaded."""
    return entry_points(group=ENTRY_POINTS)


def family(name: str) -> Family:
    """The family of that name. Raises InputError as `families` does."""
    return families([name])[0]


def families(names: Iterable[str]) -> tuple[Family, ...]:
    """The families of these names, in this order; those of DEFAULT for no names. One of an installed package is loaded now
    and not before. Raises InputError naming every one that is unknown, claimed twice or cannot be loaded."""
    found = [_find(name) for name in dict.fromkeys(tuple(names) or DEFAULT)]
    problems = [problem for problem in found if isinstance(problem, Problem)]
    if problems:
        raise InputError("the student space names a family that cannot be had", problems=problems)
    return tuple(family for family in found if isinstance(family, Family))


def code_of(name: str) -> tuple[str, ...]:
    """The package whose source makes the networks of a family that does not come with edgedistill: it belongs into the keys
    of stages. Empty for one that does. Raises InputError for one that is unknown."""
    if name in FAMILIES or name.startswith(TIMM):
        return ()
    families([name])
    (point,) = installed().select(name=name)
    for package in accumulate(point.module.split("."), lambda path, part: f"{path}.{part}"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:  # not a namespace, which others share
            return (package,)
    raise ModuleNotFoundError(point.module)


def _find(name: str) -> Family | Problem:
    if name.startswith(TIMM):
        from edgedistill.networks.families.timm_models import timm_family

        return timm_family(name.removeprefix(TIMM))
    points = list(installed().select(name=name))
    claims = [*(["edgedistill itself"] if name in FAMILIES else []), *sorted(map(_owner, points))]
    if not claims:
        return Problem("[space] families", f"unknown family {name!r}", _suggest(name))
    if len(claims) > 1:
        what = f"several packages provide a family {name!r}: {', '.join(claims)}"
        return Problem("[space] families", what, "uninstall all but one of them, or leave the family out")
    return _loaded(points[0]) if points else FAMILIES[name]


def _loaded(point: EntryPoint) -> Family | Problem:
    def broken(what: str) -> Problem:
        where = f"family {point.name!r} of {_owner(point)}"
        return Problem(where, what, "update or uninstall that package, or leave the family out")

    try:
        found = point.load()
    except Exception as error:
        return broken(f"{point.value} cannot be loaded: {type(error).__name__}: {error}")
    if not isinstance(found, Family):
        return broken(f"{point.value} is no Family but {type(found).__name__}")
    return found if found.name == point.name else broken(f"{point.value} calls itself {found.name!r}")


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _suggest(name: str) -> str:
    known = [*FAMILIES, *sorted(installed().names - FAMILIES.keys())]
    near = difflib.get_close_matches(name.lower(), known, 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
