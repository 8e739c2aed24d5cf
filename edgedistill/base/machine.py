"""What this process may use of the machine."""

from __future__ import annotations

import os


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
