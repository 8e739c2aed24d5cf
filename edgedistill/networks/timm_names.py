"""Whether timm has a model of some name. Unless timm is imported already, its source tells it: importing timm imports torch,
which takes seconds."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from pathlib import Path

from edgedistill.base.errors import InputError, Problem

_DEFINED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)


def require_model(name: str, where: str) -> None:
    """Raises InputError where timm has no model `name`, or no weights of its tag; its message begins with `where`."""
    if problem := unknown_model(name, where):
        raise InputError(f"{where}: {problem.what}", fix=problem.fix)


def unknown_model(name: str, where: str) -> Problem | None:
    """The problem at `where`, with the nearest names, if timm has no model `name`, or no weights of the tag behind its
    point."""
    architecture, timm = name.partition(".")[0], sys.modules.get("timm")
    source = "" if timm else _source()
    if timm.is_model(architecture) if timm else _stands_in(source, architecture):
        tagged = "." in name and not re.search(rf"['\"]{re.escape(name)}['\"]", source)
        return _unknown_tag(name, where) if tagged else None
    names = timm.list_models() if timm else sorted(_DEFINED.findall(source))
    longer = [name for name in names if architecture and name.startswith(architecture)]
    near = longer[:3] or difflib.get_close_matches(architecture, names, 3)
    fix = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() has all names"
    return Problem(where, f"timm has no model {architecture!r}", fix)


def _unknown_tag(name: str, where: str) -> Problem | None:
    from timm import get_pretrained_cfg, list_models

    architecture, _, tag = name.partition(".")
    try:
        get_pretrained_cfg(name)
    except RuntimeError:
        known = list_models(f"{architecture}.*", pretrained=True)
        fix = f"known: {', '.join(known)}" if known else f"write {architecture}"
        return Problem(where, f"{architecture} has no weights tagged {tag!r}", fix)
    return None


def _stands_in(source: str, architecture: str) -> bool:
    """A definition in the source says yes, and a source without the name says no. Where neither holds (a deprecated name, a
    word that stands in quotes for another reason) timm itself is asked."""
    name = re.escape(architecture)
    if re.search(rf"^@register_model\s+def {name}\(", source, re.MULTILINE):
        return True
    if source and not re.search(rf"\bdef {name}\(|['\"]{name}['\"]", source):
        return False
    from timm import is_model

    return bool(is_model(architecture))


def _source() -> str:
    """All of timm's modules of models, one behind the other; empty where they are not found."""
    found = importlib.util.find_spec("timm")
    folders = (found.submodule_search_locations if found else None) or ()
    paths = [path for folder in folders for path in sorted(Path(folder, "models").glob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
