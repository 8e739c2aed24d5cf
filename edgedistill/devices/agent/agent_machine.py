"""The process of the measuring agent and the machine that it runs on. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PARENT_POLL_S = 0.5
REFERENCE_REPEATS = 15
REFERENCE_ROUNDS = 1000
NVPMODEL = "/usr/sbin/nvpmodel"


# -- this process -----------------------------------------------------------------------------------------------


def die_with_parent(parent: int) -> None:
    """End this process when `parent` ends: by the kernel's own signal on Linux, by asking twice a second elsewhere."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
        # The parent may have died before the call, and then no signal comes.
        if os.getppid() != parent:
            os._exit(1)
        return
    threading.Thread(target=poll_parent, args=(parent,), daemon=True).start()


def poll_parent(parent: int) -> None:
    """Leave at once, without clean-up, as soon as `parent` is no longer the parent."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os._exit(1)


def pin(cpus: Sequence[int]) -> list[int]:
    """Pin this process to `cpus`; returns those it really has, empty where the system cannot pin (macOS). Raises
    OSError for CPUs that it may not have."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def allowed_cpus() -> list[int]:
    """The CPUs that this process may use, in order; all of them where the system cannot pin (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def best_cpus(threads: int) -> list[int]:
    """The CPUs for a session: of the largest cores first, one of each core before a second of any, the last ones first
    since the first serve most interrupts. Raises ValueError if fewer than `threads` are allowed."""
    allowed = allowed_cpus()
    if threads > len(allowed):
        raise ValueError(f"a session with {threads} threads needs as many CPUs; this process may use {len(allowed)}")
    cores = {cpu: core(cpu) for cpu in allowed}
    turn = {cpu: sorted(set(cores[cpu]["siblings"]) & set(allowed), reverse=True).index(cpu) for cpu in allowed}
    best = sorted(allowed, key=lambda cpu: (-(cores[cpu]["capacity"] or 0), turn[cpu], -cpu))
    return sorted(best[:threads])


def status_bytes(field: str) -> int | None:
    """A memory figure of this process from the kernel (`VmHWM`, `VmRSS`), in bytes; None off Linux."""
    match = re.search(rf"^{field}:\s+(\d+) kB", read_text("/proc/self/status"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def limit_memory(size: int | None) -> None:
    """Let this process take `size` bytes beyond what it has, on Linux; elsewhere, and for None, there is no limit. What
    counts is private writable memory, the kind that is really taken: of addresses alone libraries reserve terabytes. A
    lower limit of the user's stays."""
    now = status_bytes("VmData")
    if size is None or now is None:
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [now + size, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))


def peak_memory_bytes() -> int:
    """Largest resident size so far. `ru_maxrss` only where there is no VmHWM: on Linux it survives exec, so a child
    inherits the peak of the process that forked it."""
    peak = status_bytes("VmHWM")
    if peak is not None:
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak() -> None:
    """Let the kernel count the peak from now on (Linux 4.0 and later; elsewhere the peak stays that of the process)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


# -- the machine ------------------------------------------------------------------------------------------------


def read_text(path: str) -> str:
    """A small file of the system, stripped of blanks and the device tree's zero bytes; empty if it cannot be read."""
    try:
        return Path(path).read_text().strip("\0 \n")
    except (OSError, UnicodeDecodeError):
        return ""


def sysctl(name: str) -> str:
    """A value of macOS' sysctl, empty if there is none."""
    return subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()


def cpu_name() -> str:
    """The processor's marketing name, or the machine type where the system names none (most arm64 Linux)."""
    if sys.platform == "darwin":
        return sysctl("machdep.cpu.brand_string") or platform.machine()
    match = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", read_text("/proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def processor() -> str:
    """`cpu_name`, with the family and model that an x86 processor has: in a virtual machine the name often tells no
    generation (`AMD EPYC (family 26, model 2)`), and one can take twice as long as the next."""
    text = read_text("/proc/cpuinfo")
    numbers = [re.search(rf"^{name}\s*:\s*(\d+)$", text, re.MULTILINE) for name in ("cpu family", "model")]
    told = [f"{name} {number[1]}" for name, number in zip(("family", "model"), numbers) if number]
    return f"{cpu_name()} ({', '.join(told)})" if told else cpu_name()


def device_name() -> str:
    """The board or Mac by its model name, any other machine by its processor."""
    board = sysctl("hw.model") if sys.platform == "darwin" else read_text("/proc/device-tree/model")
    return board or cpu_name()


def os_name() -> str:
    """Distribution or macOS version, with the kernel's release."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    # platform.freedesktop_os_release is Python's from 3.10 on.
    named = re.search(r"^PRETTY_NAME=[\"']?(.*?)[\"']?$", read_text("/etc/os-release"), re.MULTILINE)
    distribution = named[1] if named else platform.system()
    return f"{distribution}, kernel {platform.release()}"


def core(cpu: int) -> dict[str, Any]:
    """The fields of `Core`: relative `capacity` (1024 is the largest core's; None where all are alike) and `siblings`,
    the CPUs on the same core."""
    folder = f"/sys/devices/system/cpu/cpu{cpu}"
    capacity = read_text(f"{folder}/cpu_capacity")
    siblings = read_text(f"{folder}/topology/thread_siblings_list")
    ranges = [tuple(map(int, part.split("-"))) for part in siblings.split(",") if part]
    return {
        "cpu": cpu,
        "capacity": int(capacity) if capacity.isdecimal() else None,
        "siblings": [one for ends in ranges for one in range(ends[0], ends[-1] + 1)] or [cpu],
    }


def power_mode(cpu: int) -> str:
    """The frequency governor of `cpu`, on a Jetson behind the board's own power mode; `unknown` where neither can be read
    (virtual machines, macOS)."""
    governor = read_text(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")
    return ", ".join(mode for mode in (jetson_mode(), governor) if mode) or "unknown"


def jetson_mode() -> str:
    """The power mode of NVIDIA's boards (`MAXN`, `15W`), empty elsewhere and where the program does not tell."""
    if not Path(NVPMODEL).exists():
        return ""
    done = subprocess.run([NVPMODEL, "-q"], capture_output=True, text=True, check=False, errors="replace")
    found = re.search(r"^NV Power Mode: (.+)$", done.stdout, re.MULTILINE)
    return found[1].strip() if found else ""


def clock_mhz(cpu: int) -> float | None:
    """The present clock of `cpu`; None where the system does not tell."""
    frequency_khz = read_text(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
    if frequency_khz.isdecimal():
        return int(frequency_khz) / 1000
    clocks = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", read_text("/proc/cpuinfo"), re.MULTILINE)
    return float(clocks[cpu]) if cpu < len(clocks) else None


def reference_us() -> float:
    """Median duration in us of a fixed piece of arithmetic: how fast the processor is now, whatever the model."""
    durations = []
    for _ in range(REFERENCE_REPEATS):
        start = time.perf_counter_ns()
        total = 0
        for number in range(REFERENCE_ROUNDS):
            total += number
        durations.append(time.perf_counter_ns() - start)
    return statistics.median(durations) / 1e3


def moment(cpus: Sequence[int]) -> dict[str, Any]:
    """Those fields of `Moment` that heat does not decide (agent_heat.py): what the machine is like now. Counters are those
    since this process, or this machine, began."""
    delays = read_text("/proc/self/schedstat").split()
    lines = [line.split() for line in read_text("/proc/stat").splitlines()]
    stolen = [int(line[8]) for line in lines if line[0] in {f"cpu{cpu}" for cpu in cpus}]
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),  # noqa: UP017 (Python 3.8)
        "reference_us": reference_us(),
        "clock_mhz": clock_mhz(cpus[0] if cpus else 0),
        "load": os.getloadavg()[0],
        "waited_ms": int(delays[1]) / 1e6 if len(delays) == 3 else None,
        "stolen_ms": sum(stolen) * 1000 / os.sysconf("SC_CLK_TCK") if stolen else None,
    }


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def installed_version(distribution: str) -> str:
    """The version of an installed distribution, `absent` where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def facts(distribution: str = "") -> dict[str, str]:
    """What the machine is, by name, for people, and the version of `distribution` there."""
    allowed = allowed_cpus()
    return {
        "device": device_name(),
        "processor": processor(),
        "machine": platform.machine(),
        "cpus": f"{len(allowed)} usable of {os.cpu_count()}",
        "memory": f"{memory_bytes() / 2**30:.1f} GiB",
        "system": os_name(),
        "power mode": power_mode(allowed[-1]),
        "agent": "python",
        **({distribution: installed_version(distribution)} if distribution else {}),
    }


def identity() -> str:
    """What tells this machine from others that are alike: a hash of the system's own number for it, which cannot be had back
    from it. Empty where the system has none."""
    number = read_text("/etc/machine-id") or read_text("/var/lib/dbus/machine-id")
    if sys.platform == "darwin":
        number = sysctl("kern.uuid")
    return hashlib.sha256(f"edgedistill {number}".encode()).hexdigest()[:12] if number else ""


def describe(cpus: Sequence[int]) -> dict[str, Any]:
    """Those fields of `Environment` that are the machine's; `cpus` are the ones that the process is pinned to."""
    return {
        "device": device_name(),
        "os": os_name(),
        "machine": platform.machine(),
        "cpu": processor(),
        "pinned_cpus": list(cpus),
        "cores": [core(cpu) for cpu in cpus],
        "power": power_mode(cpus[0] if cpus else 0),
    }
