"""Whether timm has a model of some name, mostly told by its source: importing timm imports torch, which takes seconds."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from pathlib import Path

from edgedistill.base.errors import InputError

_DEFINED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)


def require_model(name: str, where: str) -> None:
    """See that timm has the model `name`; a tag behind a point is not looked at. Raises InputError with the nearest names
    where it has none; the message begins with `where`."""
    architecture, source = name.partition(".")[0], _source()
    if _has(architecture, source):
        return
    names = sorted(_DEFINED.findall(source))
    longer = [name for name in names if architecture and name.startswith(architecture)]
    near = longer[:3] or difflib.get_close_matches(architecture, names, 3)
    raise InputError(
        f"{where}: timm has no model {architecture!r}",
        fix=f"did you mean {' or '.join(near)}?" if near else "timm.list_models() has all names",
    )


def _has(architecture: str, source: str) -> bool:
    """A definition in the source says yes, and a source without the name says no. Where neither holds (a deprecated name, a
    word that stands in quotes for another reason) timm itself is asked, and so it is where it is imported already: then it
    knows models that were registered since."""
    name = re.escape(architecture)
    if "timm" not in sys.modules:
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
