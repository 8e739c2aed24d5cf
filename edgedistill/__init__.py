"""edgedistill: distil a vision teacher into a student proven to meet a latency budget on a device.

Each command is a function here: `build`, `search` (for several targets `build_all`, `search_all`), `plan`, `export`,
`build_views`, `views_info`, `check_views`, `quantize`, `list_devices`, `check_device`, `new_target`, `check_targets`,
`profile`, `calibrate`, `profiles`, `show_profiles`, `import_profiles`, `export_profiles`, `diff_profiles`, `inspect`,
`verify`, `evaluate`, `run`, `explain`, `verify_package`, `diff_packages`, `kit`. `EdgedistillError` is what they raise
for a user's mistake. Names are loaded when first used, so that `import edgedistill` costs nothing. No submodule
may bear one of these names: once imported, it would take the function's place."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgedistill.base.versions import __version__

if TYPE_CHECKING:
    from edgedistill.base.errors import EdgedistillError
    from edgedistill.commands.build import build, build_all, plan, search, search_all
    from edgedistill.commands.calibrate import calibrate
    from edgedistill.commands.devices import check_device, list_devices
    from edgedistill.commands.examine import evaluate, inspect, run, verify
    from edgedistill.commands.explain import explain
    from edgedistill.commands.export import export
    from edgedistill.commands.kit import kit
    from edgedistill.commands.package import verify_package
    from edgedistill.commands.package_diff import diff_packages
    from edgedistill.commands.profile import profile
    from edgedistill.commands.profiles import (
        diff_profiles,
        export_profiles,
        import_profiles,
        profiles,
        show_profiles,
    )
    from edgedistill.commands.quantize import quantize
    from edgedistill.commands.targets import check_targets, new_target
    from edgedistill.commands.views import build_views, check_views, views_info
    from edgedistill.documents.profiled import ProfileResult
    from edgedistill.documents.results import BuildResult

_HOMES = {
    "build": "edgedistill.commands.build",
    "build_all": "edgedistill.commands.build",
    "build_views": "edgedistill.commands.views",
    "calibrate": "edgedistill.commands.calibrate",
    "check_device": "edgedistill.commands.devices",
    "check_targets": "edgedistill.commands.targets",
    "check_views": "edgedistill.commands.views",
    "diff_packages": "edgedistill.commands.package_diff",
    "diff_profiles": "edgedistill.commands.profiles",
    "export_profiles": "edgedistill.commands.profiles",
    "import_profiles": "edgedistill.commands.profiles",
    "show_profiles": "edgedistill.commands.profiles",
    "evaluate": "edgedistill.commands.examine",
    "explain": "edgedistill.commands.explain",
    "export": "edgedistill.commands.export",
    "inspect": "edgedistill.commands.examine",
    "kit": "edgedistill.commands.kit",
    "list_devices": "edgedistill.commands.devices",
    "new_target": "edgedistill.commands.targets",
    "plan": "edgedistill.commands.build",
    "run": "edgedistill.commands.examine",
    "search": "edgedistill.commands.build",
    "search_all": "edgedistill.commands.build",
    "verify": "edgedistill.commands.examine",
    "verify_package": "edgedistill.commands.package",
    "views_info": "edgedistill.commands.views",
    "profile": "edgedistill.commands.profile",
    "profiles": "edgedistill.commands.profiles",
    "quantize": "edgedistill.commands.quantize",
    "BuildResult": "edgedistill.documents.results",
    "ProfileResult": "edgedistill.documents.profiled",
    "EdgedistillError": "edgedistill.base.errors",
}
__all__ = [
    "BuildResult",
    "EdgedistillError",
    "ProfileResult",
    "__version__",
    "build",
    "build_all",
    "build_views",
    "calibrate",
    "check_device",
    "check_targets",
    "check_views",
    "diff_packages",
    "diff_profiles",
    "evaluate",
    "explain",
    "export",
    "export_profiles",
    "import_profiles",
    "inspect",
    "kit",
    "list_devices",
    "new_target",
    "plan",
    "profile",
    "profiles",
    "quantize",
    "run",
    "search",
    "search_all",
    "show_profiles",
    "verify",
    "verify_package",
    "views_info",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
