"""edgedistill: distil a vision teacher into a student proven to meet a latency budget on a device.

Each command is a function here: `build` and `search` (for several targets `build_all` and `search_all`), `export`,
`quantize`, `profile`, `calibrate`, `profiles`, `inspect`, `verify`, `evaluate`, `run`, `explain`.
`EdgedistillError` is what they raise for a user's mistake. Names are loaded when first used, so that
`import edgedistill` costs nothing. No submodule may bear one of these names: once imported, it would take the
function's place.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedistill.api import build as build
    from edgedistill.api import build_all as build_all
    from edgedistill.api import calibrate as calibrate
    from edgedistill.api import evaluate as evaluate
    from edgedistill.api import explain as explain
    from edgedistill.api import export as export
    from edgedistill.api import inspect as inspect
    from edgedistill.api import profile as profile
    from edgedistill.api import profiles as profiles
    from edgedistill.api import quantize as quantize
    from edgedistill.api import run as run
    from edgedistill.api import search as search
    from edgedistill.api import search_all as search_all
    from edgedistill.api import verify as verify
    from edgedistill.errors import EdgedistillError as EdgedistillError
    from edgedistill.results import BuildResult as BuildResult
    from edgedistill.results import ProfileResult as ProfileResult

__version__ = "0.1.0"

_HOMES = {
    "build": "edgedistill.api",
    "build_all": "edgedistill.api",
    "calibrate": "edgedistill.api",
    "evaluate": "edgedistill.api",
    "explain": "edgedistill.api",
    "export": "edgedistill.api",
    "inspect": "edgedistill.api",
    "run": "edgedistill.api",
    "search": "edgedistill.api",
    "search_all": "edgedistill.api",
    "verify": "edgedistill.api",
    "profile": "edgedistill.api",
    "profiles": "edgedistill.api",
    "quantize": "edgedistill.api",
    "BuildResult": "edgedistill.results",
    "ProfileResult": "edgedistill.results",
    "EdgedistillError": "edgedistill.errors",
}
__all__ = [
    "BuildResult",
    "EdgedistillError",
    "ProfileResult",
    "__version__",
    "build",
    "build_all",
    "calibrate",
    "evaluate",
    "explain",
    "export",
    "inspect",
    "profile",
    "profiles",
    "quantize",
    "run",
    "search",
    "search_all",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
