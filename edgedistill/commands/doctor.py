"""What works on this machine: formats, runtimes, devices, tools, and the command that brings what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping

from edgedistill.base.errors import InputError
from edgedistill.base.machine import machine_bytes, nvidia_gpus, usable_cpus
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import CACHE_VARIABLE, Store, default_root
from edgedistill.base.versions import __version__
from edgedistill.commands.installed import checked_packages
from edgedistill.devices.adb import attached
from edgedistill.devices.agent import agent_machine
from edgedistill.documents.answers import CacheFolder, Diagnosis, DoctorCheck, Machine
from edgedistill.formats import SHIPPED, format_for, tools_of
from edgedistill.formats.format import ModelFormat

_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_fp16", "amx_int8", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2"),
)


def diagnose(listener: Listener = silent) -> Diagnosis:
    """Look at everything. Most of its time goes to imports of installed packages, each of which `listener` is told of."""
    packages = checked_packages(listener)
    formats = [_format(format_for(form), packages) for form in SHIPPED]
    return Diagnosis(
        edgedistill_version=__version__,
        machine=_machine(),
        cache=_cache(),
        checks=(*formats, *packages.values(), *_devices(), *_tools()),
    )


def _format(form: ModelFormat, packages: Mapping[str, DoctorCheck]) -> DoctorCheck:
    """Whether files of a format can be made here; the detail says whether they can also be run and measured here."""
    needs = [packages[name] for name in tools_of(form.format) if name not in form.one_of]
    if alternatives := [packages[name] for name in form.one_of]:
        needs.insert(0, next((check for check in alternatives if check.usable), alternatives[-1]))
    lacking = [check for check in needs if not check.usable]
    if not lacking:
        versions = ", ".join(f"{check.name} {check.version}" for check in needs)
        return DoctorCheck(kind="format", name=form.format, usable=True, version=versions, detail=form.here)
    why = "; ".join(f"{check.name}: {check.detail.removesuffix(' (optional)')}" for check in lacking)
    if nowhere := not all(check.fix for check in lacking):
        why += f"; its vendor has no package for {platform.system()} on {platform.machine()}"
    fix = "" if nowhere else lacking[0].fix
    return DoctorCheck(kind="format", name=form.format, usable=False, detail=f"cannot be made here ({why})", fix=fix)


def _devices() -> list[DoctorCheck]:
    gpus = nvidia_gpus()
    here = DoctorCheck(kind="device", name="this machine", usable=True, detail="target host")
    gpu = DoctorCheck(kind="device", name="NVIDIA GPU", usable=bool(gpus), detail="; ".join(gpus) or "none found")
    phones = [serial for serial, state in attached() if state == "device"]
    found = ", ".join(phones) or "none attached; `edgedistill devices` lists your own devices too"
    return [here, gpu, DoctorCheck(kind="device", name="Android", usable=bool(phones), detail=found)]


def _tools() -> list[DoctorCheck]:
    mac = sys.platform == "darwin"
    wanted = {
        "ssh": ("accepts a board's host key, once", "" if mac else "apt-get install openssh-client"),
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


def _machine() -> Machine:
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", agent_machine.read_text("/proc/cpuinfo"), re.MULTILINE)
    features = {name for line in lines for name in line.split()}
    return Machine(
        system=platform.platform(),
        machine=platform.machine(),
        python=platform.python_version(),
        cpu=agent_machine.processor(),
        cpus=usable_cpus(),
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
