"""What this process may use of the machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TOOL_TIMEOUT_S = 10.0
# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4


def usable_cpus() -> int:
    """How many CPUs this process may keep busy: those that it may run on, or fewer where its control group has a share of
    their time alone, as a container with a limit. More threads than that are stopped together, and wait for each other."""
    import joblib  # type: ignore[import-untyped]

    return int(joblib.cpu_count())


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A context in which what this process frees stays with it, for what it takes next. glibc gives large blocks back at
    once, and the system clears each one that it hands out: a training would pay for that in every step. Other C libraries
    are left as they are."""
    set_option, trim = _glibc()
    if set_option is None or trim is None:
        yield
        return
    set_option(_MMAP_MAX, 0)
    set_option(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        # As glibc sets them itself in a process that has freed large blocks: it no longer does once they were set.
        set_option(_MMAP_MAX, 2**16)
        set_option(_MMAP_THRESHOLD, 2**25)
        set_option(_TRIM_THRESHOLD, 2**26)
        trim(0)


def _glibc() -> tuple[Callable[[int, int], int] | None, Callable[[int], int] | None]:
    """Its mallopt and malloc_trim."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return getattr(library, "mallopt", None), getattr(library, "malloc_trim", None)


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
