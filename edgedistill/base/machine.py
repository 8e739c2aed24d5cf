"""What this process may use of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess

TOOL_TIMEOUT_S = 10.0


def allowed_cpus() -> tuple[int, ...]:
    """CPUs this process may run on, rising; all of them by number where the system has no affinity (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def machine_bytes() -> int:
    """The memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 8 * 2**30


def answer_of(*command: str) -> str:
    """What a tool prints; nothing where it is missing, fails or does not answer within TOOL_TIMEOUT_S."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, stdin=subprocess.DEVNULL, errors="replace"
        )
    except (subprocess.TimeoutExpired, OSError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def nvidia_gpus() -> tuple[str, ...]:
    """Name, compute capability and driver of each GPU, as the driver's own tool lists them."""
    listing = answer_of("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.splitlines()]
    return tuple(f"{row[0]} (SM {row[1]}, driver {row[2]})" for row in rows if len(row) == 3)
