"""Memory of a process: what is freed stays with it for a time, and is given back."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from edgedistill.base.machine import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

outside, before = faults(), resident()
with freed_memory_kept():
    torch.ones(16_000_000)
    inside = faults()
print(outside, inside, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_freed_memory_is_kept_and_then_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    outside, inside, grown = map(int, done.stdout.split())
    pages = 16_000_000 * 4 // resource.getpagesize()
    assert outside > 10 * pages, "each block is taken from the system anew"
    assert inside < pages, "the same block serves again"
    assert grown < 16_000_000, "it goes back to the system at the end"
