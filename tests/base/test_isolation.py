"""Work in a child: results, errors, crashes, limits."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.isolation import ChildBug, ChildFailure, Limits, in_child

ROOMY = Limits(seconds=60, memory_bytes=2**30)
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are enforced on Linux")


def double(values: np.ndarray) -> np.ndarray:
    return values * 2


def test_the_result_comes_back() -> None:
    np.testing.assert_array_equal(in_child("doubling", ROOMY, double, np.arange(5)), [0, 2, 4, 6, 8])


def complain() -> None:
    raise InputError("bad", fix="mend it", problems=[Problem("here", "broken")])


def test_an_error_with_a_way_out_comes_as_it_is() -> None:
    with pytest.raises(InputError) as caught:
        in_child("complaining", ROOMY, complain)
    assert (caught.value.message, caught.value.fix) == ("bad", "mend it")
    assert caught.value.problems == (Problem("here", "broken"),)


def test_any_other_exception_is_a_bug_with_its_traceback() -> None:
    with pytest.raises(ChildBug, match="dividing failed in its child process") as caught:
        in_child("dividing", ROOMY, divmod, 1, 0)
    assert caught.value.summary == "ZeroDivisionError: integer division or modulo by zero"
    assert "Traceback" in str(caught.value)


def segfault() -> None:
    print("about to read address 1", flush=True)
    ctypes.string_at(1)


@linux
def test_a_segmentation_fault_costs_the_child_alone() -> None:
    with pytest.raises(ChildFailure, match="signal 11") as caught:
        in_child("reading", ROOMY, segfault)
    assert caught.value.kind == "crashed"
    assert "about to read address 1" in caught.value.message


@linux
def test_a_limit_on_memory_is_kept() -> None:
    with pytest.raises(ChildFailure, match=r"more than the 256\.0 MiB") as caught:
        in_child("hoarding", Limits(60, 2**28), np.ones, 2**30)
    assert caught.value.kind == "memory"


def refuse() -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")


def test_a_library_that_is_refused_memory_says_so_in_its_own_way() -> None:
    with pytest.raises(ChildFailure, match="asked for more than the") as caught:
        in_child("allocating", ROOMY, refuse)
    assert caught.value.kind == "memory"


@linux
def test_limits_grow_with_what_a_file_stores_not_with_what_it_claims(tmp_path: Path) -> None:
    small, holes, large = tmp_path / "small", tmp_path / "holes", tmp_path / "large"
    small.write_bytes(b"x")
    large.write_bytes(os.urandom(2**24))
    with holes.open("wb") as stream:
        stream.truncate(2**40)
    assert Limits.for_file(holes).memory_bytes == 2 * 2**30
    assert Limits.for_file(holes).seconds < 130
    assert Limits.for_file(large).memory_bytes >= Limits.for_file(small).memory_bytes
    assert Limits.for_file(tmp_path).seconds == pytest.approx(Limits.for_file(large).seconds, abs=1)
    assert Limits.for_file(tmp_path / "nothing").memory_bytes == 2 * 2**30


def test_a_limit_on_time_is_kept() -> None:
    began = time.monotonic()
    with pytest.raises(ChildFailure, match="took longer than 1 s") as caught:
        in_child("sleeping", Limits(1, 2**30), time.sleep, 60)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - began < 20


def end_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@linux
def test_a_child_killed_from_outside_is_told_apart() -> None:
    with pytest.raises(ChildFailure, match="killed by signal 9") as caught:
        in_child("dying", ROOMY, end_itself)
    assert caught.value.kind == "killed"


def convolve() -> float:
    import torch

    return float(torch.nn.functional.conv2d(torch.ones(8, 16, 64, 64), torch.ones(32, 16, 3, 3)).mean())


def test_torch_computes_in_a_child_of_a_process_that_has_computed() -> None:
    assert in_child("convolving", ROOMY, convolve) == convolve() == 144.0


def chatter() -> None:
    os.write(1, b"loud\n")
    print("louder", file=sys.stderr)


@linux
def test_what_a_child_prints_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    in_child("chattering", ROOMY, chatter)
    assert capfd.readouterr() == ("", "")


JAX_LOWERING = """
import jax, jax.numpy as jnp
from edgedistill.base.isolation import Limits, in_child

def lowered(side):
    def nested(x):
        for step in range(4):  # a module of several functions: those are verified in parallel
            x = jax.jit(lambda x, step=step: jnp.sin(x) @ x + step)(x)
        return x
    return len(jax.jit(nested).lower(jax.ShapeDtypeStruct((side, side), jnp.float32)).as_text())

lowered(3)
print(in_child("lowering", Limits(seconds=20, memory_bytes=2**31), lowered, 4))
"""


@linux
def test_the_compiler_of_jax_works_in_the_child_of_a_process_that_has_used_it() -> None:
    # Its contexts verify in one pool of threads, which do not come along: a conversion to LiteRT waited for them for ever.
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-c", JAX_LOWERING], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr[-2000:]


def test_where_nothing_can_be_forked_what_cannot_be_sent_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: a function that can be pickled has a process of its own, one that holds another does not."""
    monkeypatch.setattr("edgedistill.base.isolation._LINUX", False)
    limits = Limits(seconds=60, memory_bytes=2**30)
    assert in_child("asking", limits, os.getpid) != os.getpid()
    assert in_child("asking", limits, lambda: os.getpid()) == os.getpid()
