"""What native code says is dropped while it is imported or loaded, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgedistill.base.isolation import ChildFailure, Limits, in_child
from edgedistill.base.quiet import native_quiet, quiet_import

Captured = pytest.CaptureFixture[str]


def test_native_code_is_heard_before_and_after_and_not_inside(capfd: Captured) -> None:
    os.write(2, b"before\n")
    with native_quiet():
        os.write(2, b"chatter\n")
        with native_quiet():
            os.write(2, b"chatter within\n")
        os.write(2, b"chatter still\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_an_import_that_fails_ends_the_silence(capfd: Captured) -> None:
    with pytest.raises(ImportError, match="absent"), quiet_import():
        os.write(2, b"chatter\n")
        raise ImportError("absent")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_where_stderr_is_closed_there_is_nothing_to_drop() -> None:
    code = (
        "import os; os.close(2)\nfrom edgedistill.base.quiet import native_quiet\nwith native_quiet(): print('inside')"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "inside\n"


def starve() -> None:
    with native_quiet():
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.abort()


@pytest.mark.skipif(sys.platform != "linux", reason="a child's output is kept on Linux")
def test_the_last_words_of_a_child_are_kept() -> None:
    with pytest.raises(ChildFailure, match="more than the") as caught:
        in_child("loading", Limits(seconds=60, memory_bytes=2**30), starve)
    assert caught.value.kind == "memory", "the abort of a library that was refused memory"
