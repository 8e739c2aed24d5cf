"""The Python packages that edgedistill and its formats use: which are there, whether they load, what brings those that are
not.

Versions come from package metadata. Whether a package with native code really loads is tried in a child process with a time
limit, so that a library that crashes ends the child and not the answer.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from packaging.requirements import Requirement

from edgedistill.base.progress import Listener, StageAdvanced, telling
from edgedistill.base.store import distribution_of
from edgedistill.documents.answers import DoctorCheck
from edgedistill.formats import SHIPPED, format_for

IMPORT_TIMEOUT_S = 60.0

# What an import says of itself beyond that it worked.
_ASK: Mapping[str, str] = {
    "torch": "'trains on ' + ('cuda' if m.cuda.is_available() else 'mps' if m.backends.mps.is_available() else 'cpu')",
    "onnxruntime": "'providers: ' + ', '.join(m.get_available_providers())",
}
_OTHERS = ("datasets", "asyncssh", "adbutils")
"""Besides those that make and run files: for data, and for devices elsewhere."""
_GATHERING = ("all", "dev")
"""The extras that repeat others."""


def checked_packages(listener: Listener) -> dict[str, DoctorCheck]:
    """What there is to say of each package, by name; `listener` hears of each import, which takes most of the time."""
    forms = [format_for(form) for form in SHIPPED]
    names = list(dict.fromkeys(("torch", "timm", "torchao", *(t for form in forms for t in form.tools), *_OTHERS)))
    there = {name: found for name in names if (found := distribution_of(name))}
    # The others are Python above these, whose import would only be paid for again.
    native = {"torch", *(tool for form in forms for tool in form.native)}
    tried = _imported([name for name in names if name in there and name in native], listener)
    return {name: _checked(name, there.get(name), tried.get(name, (name in there, ""))) for name in names}


def try_import(name: str, timeout_s: float = IMPORT_TIMEOUT_S) -> tuple[bool, str]:
    """Whether the package `name` loads in a process of its own, and what it says of itself, or why it does not load."""
    module = name.replace("-", "_")
    code = f"import importlib; m = importlib.import_module({module!r}); print({_ASK.get(name, repr(''))})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return False, f"its import did not end within {timeout_s:g} s"
    if done.returncode < 0:
        return False, f"its import was killed by signal {-done.returncode}"
    if done.returncode:
        return False, (done.stderr.strip().splitlines() or [f"its import ended with {done.returncode}"])[-1]
    return True, (done.stdout.strip().splitlines() or [""])[-1]


def _imported(names: Sequence[str], listener: Listener) -> dict[str, tuple[bool, str]]:
    """What `try_import` says of each."""
    tried = dict[str, tuple[bool, str]]()
    # Two at a time: each of these imports keeps a core and the disk busy.
    with telling(listener, "import", "installed packages", len(names)), ThreadPoolExecutor(max_workers=2) as pool:
        for name, said in zip(names, pool.map(try_import, names), strict=True):
            tried[name] = said
            listener(StageAdvanced("import", len(tried), len(names), name))
    return tried


def _checked(name: str, found: tuple[str, str] | None, tried: tuple[bool, str]) -> DoctorCheck:
    usable, detail = tried
    if found is not None:
        fix = "" if usable else f"pip install --force-reinstall --no-deps {found[0]}"
        return DoctorCheck(kind="package", name=name, usable=usable, version=found[1], detail=detail, fix=fix)
    extras = list(_extras(name))
    always = "" in extras
    optional = "" if always else " (optional)"
    what = "edgedistill" if always else f'"edgedistill[{extras[0]}]"' if extras else ""
    fix = f"pip install {'--upgrade ' * always}{what}" if what else ""
    return DoctorCheck(kind="package", name=name, usable=False, detail=f"not installed{optional}", fix=fix)


def _extras(name: str) -> Iterator[str]:
    """The extras of edgedistill that bring the package `name` to this platform, empty for what always comes along. None
    where its vendor has no wheel for the platform: edgedistill's own requirements say where there is one."""
    own = importlib.metadata.metadata("edgedistill")
    extras = ["", *(extra for extra in own.get_all("Provides-Extra") or () if extra not in _GATHERING)]
    for text in own.get_all("Requires-Dist") or ():
        wanted = Requirement(text)
        # `tensorrt-rtx-cu12` brings `tensorrt_rtx`.
        if f"{wanted.name}-".startswith(f"{name.replace('_', '-')}-"):
            for extra in extras:
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    yield extra
