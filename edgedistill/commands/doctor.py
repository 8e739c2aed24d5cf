"""What works on this machine: formats, runtimes, devices, tools, and the command that brings what is missing.

Nothing heavy is imported here. Versions come from package metadata; whether a package really loads is tried in a child
process with a time limit, so that a native library that crashes ends the child and not the answer.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from edgedistill.base.errors import InputError
from edgedistill.base.machine import allowed_cpus, machine_bytes
from edgedistill.base.progress import Listener, StageAdvanced, StageFinished, StageStarted, silent
from edgedistill.base.store import CACHE_VARIABLE, Store, default_root, tool_version
from edgedistill.base.versions import __version__
from edgedistill.devices.agent import agent_machine
from edgedistill.documents.specs import Frozen

IMPORT_TIMEOUT_S = 60.0
TOOL_TIMEOUT_S = 10.0


class DoctorCheck(Frozen):
    """One thing looked at. `detail` says what it does here or why it does not; `fix` is the command that brings it."""

    kind: Literal["package", "format", "device", "tool"]
    name: str
    usable: bool
    version: str = ""
    detail: str = ""
    fix: str = ""


class Machine(Frozen):
    """This machine, as far as it bears on latency."""

    system: str
    machine: str
    python: str
    cpu: str
    cpus: int
    cpu_features: tuple[str, ...]
    memory_bytes: int


class CacheFolder(Frozen):
    """Where finished stages are kept. `problem` is empty where the folder can be used."""

    path: str
    bytes: int
    free_bytes: int | None
    problem: str = ""


class Diagnosis(Frozen):
    """All that `edgedistill doctor` finds."""

    edgedistill_version: str
    machine: Machine
    cache: CacheFolder
    checks: tuple[DoctorCheck, ...]


# Import name and distributions that provide it (any of them), in the order shown.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "timm": ("timm",),
    "torchao": ("torchao",),
    "onnx": ("onnx",),
    "onnxscript": ("onnxscript",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "coremltools": ("coremltools",),
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "tensorrt_rtx": ("tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx"),
    "litert_torch": ("litert-torch",),
    "ai_edge_litert": ("ai-edge-litert",),
    "ai_edge_quantizer": ("ai-edge-quantizer",),
    "executorch": ("executorch",),
    "datasets": ("datasets",),
}
_OPTIONAL = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt",
    "litert_torch": "litert",
    "ai_edge_litert": "litert",
    "ai_edge_quantizer": "litert",
    "executorch": "executorch",
    "datasets": "huggingface",
}
"""Packages that come with an extra, and which."""
# Tried by importing them: libraries with native code of a vendor. The others are Python above torch or onnx, whose
# import would only be paid for again.
_NATIVE = ("torch", "onnx", "onnxruntime", "coremltools", "tensorrt", "tensorrt_rtx", "ai_edge_litert")
# What an import says of itself beyond that it worked.
_ASK: Mapping[str, str] = {
    "torch": "'trains on ' + ('cuda' if m.cuda.is_available() else 'mps' if m.backends.mps.is_available() else 'cpu')",
    "onnxruntime": "'providers: ' + ', '.join(m.get_available_providers())",
}
_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_fp16", "amx_int8", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2"),
)


def diagnose(listener: Listener = silent) -> Diagnosis:
    """Look at everything. Most of its time goes to imports of installed packages, each of which `listener` is told of."""
    packages = _packages(listener)
    gpus = _nvidia_gpus()
    return Diagnosis(
        edgedistill_version=__version__,
        machine=_machine(),
        cache=_cache(),
        checks=(*_formats(packages, gpus), *packages.values(), *_devices(gpus), *_tools()),
    )


def try_import(name: str, timeout_s: float = IMPORT_TIMEOUT_S) -> tuple[bool, str]:
    """Whether `name` loads in a process of its own, and what it says of itself, or why it does not load."""
    code = f"import importlib; m = importlib.import_module({name!r}); print({_ASK.get(name, repr(''))})"
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


def _packages(listener: Listener) -> dict[str, DoctorCheck]:
    versions = {name: _version(distributions) for name, distributions in _PACKAGES.items()}
    tried = _imported([name for name in _NATIVE if versions[name]], listener)
    checks = {}
    for name, version in versions.items():
        absent = "" if version else "not installed" + " (optional)" * (name in _OPTIONAL)
        usable, detail = tried.get(name, (bool(version), absent))
        fix = "" if usable else _package_fix(name, installed=bool(version))
        checks[name] = DoctorCheck(kind="package", name=name, usable=usable, version=version, detail=detail, fix=fix)
    return checks


def _imported(names: Sequence[str], listener: Listener) -> dict[str, tuple[bool, str]]:
    """What `try_import` says of each."""
    began, tried = time.monotonic(), dict[str, tuple[bool, str]]()
    listener(StageStarted("import", "installed packages", len(names)))
    # Two at a time: each of these imports keeps a core and the disk busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for name, said in zip(names, pool.map(try_import, names), strict=True):
            tried[name] = said
            listener(StageAdvanced("import", len(tried), len(names), name))
    listener(StageFinished("import", "installed packages", time.monotonic() - began, reused=False))
    return tried


def _version(distributions: tuple[str, ...]) -> str:
    versions = (tool_version(distribution) for distribution in distributions)
    return next((version for version in versions if version != "absent"), "")


def _package_fix(name: str, *, installed: bool) -> str:
    if installed:
        return f"pip install --force-reinstall --no-deps {_PACKAGES[name][0]}"
    if name in ("tensorrt", "tensorrt_rtx"):
        has_wheel = (sys.platform, platform.machine()) in (("linux", "x86_64"), ("win32", "AMD64"))
        return 'pip install "edgedistill[tensorrt]"' if has_wheel and name == "tensorrt_rtx" else ""
    if name == "coremltools":
        has_wheel = sys.platform == "darwin" or (sys.platform == "linux" and platform.machine() == "x86_64")
        return "pip install --upgrade edgedistill" if has_wheel and sys.version_info < (3, 14) else ""
    return f'pip install "edgedistill[{_OPTIONAL[name]}]"' if name in _OPTIONAL else "pip install --upgrade edgedistill"


def _formats(packages: Mapping[str, DoctorCheck], gpus: tuple[str, ...]) -> list[DoctorCheck]:
    """For each format whether it can be made here; the detail says whether it can also be run and measured here."""
    onnx = [packages[name] for name in ("onnx", "onnxscript", "onnxruntime")]
    builder = packages["tensorrt"] if packages["tensorrt"].usable else packages["tensorrt_rtx"]
    litert = [packages[name] for name in ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")]
    made_not_run = "made and inspected here; not run: "
    on_gpu = f"made here; {gpus[0]} can run it" if gpus else f"{made_not_run}no NVIDIA GPU"
    elsewhere = "made here and computed by the reference interpreter; run and measured on macOS"
    on_mac = "made and run here" if sys.platform == "darwin" else elsewhere
    return [
        _format("onnx", onnx, "made, run and measured here (ONNX Runtime)"),
        _format("tensorrt", [builder], on_gpu),
        _format("coreml", [packages["coremltools"]], on_mac),
        _format("litert", litert, "made, run and measured here (LiteRT with XNNPACK)"),
        _format("executorch", [packages["executorch"]], "made, run and measured here (ExecuTorch with XNNPACK)"),
    ]


def _format(name: str, needs: list[DoctorCheck], detail: str) -> DoctorCheck:
    lacking = [check for check in needs if not check.usable]
    if not lacking:
        versions = ", ".join(f"{check.name} {check.version}" for check in needs)
        return DoctorCheck(kind="format", name=name, usable=True, version=versions, detail=detail)
    why = "; ".join(f"{check.name}: {check.detail.removesuffix(' (optional)')}" for check in lacking)
    fix = next((check.fix for check in lacking if check.fix), "")
    if not fix:
        why += f"; its vendor has no package for {platform.system()} on {platform.machine()}"
    return DoctorCheck(kind="format", name=name, usable=False, detail=f"cannot be made here ({why})", fix=fix)


def _devices(gpus: tuple[str, ...]) -> list[DoctorCheck]:
    here = DoctorCheck(kind="device", name="this machine", usable=True, detail="target host")
    gpu = DoctorCheck(kind="device", name="NVIDIA GPU", usable=bool(gpus), detail="; ".join(gpus) or "none found")
    listed = _answer("adb", "devices").splitlines()[1:]
    phones = [line.split()[0] for line in listed if line.strip().endswith("device")]
    found = ", ".join(phones) or ("none attached" if shutil.which("adb") else "adb is not installed")
    return [here, gpu, DoctorCheck(kind="device", name="Android", usable=bool(phones), detail=found)]


def _nvidia_gpus() -> tuple[str, ...]:
    """Name, compute capability and driver of each GPU, as the driver's own tool lists them."""
    listing = _answer("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.splitlines()]
    return tuple(f"{row[0]} (SM {row[1]}, driver {row[2]})" for row in rows if len(row) == 3)


def _tools() -> list[DoctorCheck]:
    mac = sys.platform == "darwin"
    wanted = {
        "ssh": ("for boards over SSH", "" if mac else "apt-get install openssh-client"),
        "adb": ("for Android phones", "brew install android-platform-tools" if mac else "apt-get install adb"),
        "trtexec": ("times TensorRT engines by hand", ""),
        "nvidia-smi": ("comes with NVIDIA's driver", ""),
    }
    checks = []
    for name, (purpose, fix) in wanted.items():
        found = shutil.which(name)
        detail = f"{purpose}: {found}" if found else purpose
        checks.append(DoctorCheck(kind="tool", name=name, usable=bool(found), detail=detail, fix="" if found else fix))
    return checks


def _answer(*command: str) -> str:
    """What a tool prints; nothing where it is missing, fails or does not answer in time."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, stdin=subprocess.DEVNULL, errors="replace"
        )
    except (subprocess.TimeoutExpired, OSError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _machine() -> Machine:
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", agent_machine.read_text("/proc/cpuinfo"), re.MULTILINE)
    features = {name for line in lines for name in line.split()}
    return Machine(
        system=platform.platform(),
        machine=platform.machine(),
        python=platform.python_version(),
        cpu=agent_machine.cpu_name(),
        cpus=len(allowed_cpus()),
        cpu_features=tuple(name for name in _FEATURES if name in features),
        memory_bytes=machine_bytes(),
    )


def _cache() -> CacheFolder:
    root = default_root()
    try:
        usage = Store(root).usage()
    except InputError as error:
        return CacheFolder(path=str(root), bytes=0, free_bytes=None, problem=f"{error.message}; {error.fix}")
    problem = "" if os.access(root, os.W_OK) else f"cannot be written to; point {CACHE_VARIABLE} elsewhere"
    return CacheFolder(
        path=str(root),
        bytes=sum(size for _, size in usage.values()),
        free_bytes=shutil.disk_usage(root).free,
        problem=problem,
    )
