"""Work that may take its process down, done in a child with a time and a memory limit.

Vendors' converters and parsers are native code: on some models they end in a segmentation fault, on hostile files they ask
for all the memory there is. In a child that costs one artifact and no build.

On Linux the child is forked: it has everything that is loaded already, so that it starts in milliseconds and takes any
argument. Elsewhere (fork is unsafe beside macOS frameworks) it is a fresh interpreter, to which function, arguments and
result are pickled, and the memory limit is not enforced: those systems have no limit that counts what a process really uses.
What cannot be pickled there, a network's torch program for one, is worked on in the calling process.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from edgedistill.base.errors import EdgedistillError, TrialFailure
from edgedistill.base.machine import machine_bytes
from edgedistill.base.quiet import output_is_aside
from edgedistill.base.units import format_bytes

P = ParamSpec("P")
R = TypeVar("R")

_LINUX = sys.platform == "linux"
_TAIL_BYTES = 4000
_OUT_OF_MEMORY = ("bad_alloc", "annot allocate memory", "can't allocate memory", "Failed to allocate memory")
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}


@dataclass(frozen=True)
class Limits:
    """What a child may use: `seconds` of wall time; `memory_bytes` beyond what its parent had when it began."""

    seconds: float
    memory_bytes: int

    @classmethod
    def for_file(cls, path: Path) -> Limits:
        """For reading a model file: two minutes and 2 GiB, more for large files, for a reader holds several copies, up to
        half of the machine's memory. What counts is what lies on the disk: a file may claim terabytes of holes."""
        size = _stored_bytes(path)
        memory_bytes = min(2 * 2**30 + 6 * size, max(2 * 2**30, machine_bytes() // 2))
        return cls(seconds=120 + size / 10e6, memory_bytes=memory_bytes)


CONVERSION = Limits(seconds=1800, memory_bytes=16 * 2**30)
"""For a converter. A 350 MB network peaks at about 3 GiB in the hungriest of them."""


class ProcessFailure(TrialFailure):
    """A process that was asked for something failed at it; `kind` is the word for how."""

    def __init__(self, kind: str, message: str, *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.kind = kind


class ChildFailure(ProcessFailure):
    """The child did not answer. `kind`: `crashed` (a signal of its own making), `killed` (from outside,
    mostly the kernel out of memory), `timeout`, `memory`."""


class ChildBug(RuntimeError):
    """What the child ran raised something that is no EdgedistillError: a bug, or a reader's way to refuse a foreign file.
    `summary` is the exception in one line; the message holds the child's traceback."""

    def __init__(self, what: str, summary: str, trace: str) -> None:
        super().__init__(f"{what} failed in its child process:\n{trace}")
        self.summary = summary


def in_child(what: str, limits: Limits, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What `function` returns, or the EdgedistillError that it raises, from a child process; what the child prints is
    dropped. The result is pickled; there must be no torch tensor in it, whose memory would be the child's. `what` names the
    work in messages: "converting to litert".

    Raises ChildFailure where the child crashes, runs over a limit or is killed, ChildBug for any other exception.
    """
    if not _LINUX and not _can_be_sent(function, args, kwargs):
        return function(*args, **kwargs)
    context = multiprocessing.get_context("fork") if _LINUX else multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    answer: tuple[str, Any] | None = None
    with tempfile.TemporaryFile() as printed:
        sink = printed.fileno() if _LINUX else None
        arguments = (there, sink, os.getpid(), limits.memory_bytes, function, args, kwargs)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        there.close()
        try:
            answer = here.recv() if here.poll(limits.seconds) else ("timeout", None)
        except (EOFError, ConnectionResetError):
            answer = ("died", None)
        finally:
            # A child whose pipe closed without an answer is about to end, and its exit code says why.
            process.join(0 if answer is None or answer[0] == "timeout" else 10)
            process.kill()
            process.join()
            here.close()
        output = _tail(printed)
    result: R = _opened(what, limits, answer, process.exitcode or 0, output)
    return result


def _can_be_sent(*values: Any) -> bool:
    try:
        ForkingPickler.dumps(values)
    except Exception:  # pickling runs code of whatever it is given
        return False
    return True


def _opened(what: str, limits: Limits, answer: tuple[str, Any], exit_code: int, output: str) -> Any:
    kind, content = answer
    if kind == "result":
        return content
    if kind == "error":
        raise content
    if kind == "bug":
        raise ChildBug(what, *content)
    if kind == "timeout":
        raise ChildFailure("timeout", f"{what} took longer than {limits.seconds:.0f} s and was stopped")
    raise death(what, limits.memory_bytes, exit_code, output, starved=kind == "memory")


def death(what: str, memory_bytes: int, exit_code: int, output: str, *, starved: bool = False) -> ChildFailure:
    """Why a process that did `what` under a limit of `memory_bytes` ended without an answer, by its exit code (a signal's
    number below zero) and the end of what it had printed; `starved` where it said that it ran out of memory."""
    # C++ code that is refused memory mostly aborts.
    if starved or (exit_code == -signal.SIGABRT and any(words in output for words in _OUT_OF_MEMORY)):
        allowed = format_bytes(memory_bytes)
        return ChildFailure("memory", f"{what} asked for more than the {allowed} it may use")
    number = -exit_code
    if exit_code < 0 and number not in _CRASHES:
        fix = "signal 9 mostly means that the machine ran out of memory" if number == signal.SIGKILL else ""
        return ChildFailure("killed", f"{what} was killed by signal {number}", fix=fix)
    how = f"signal {number}, {signal.strsignal(number)}" if exit_code < 0 else f"exit code {exit_code}"
    last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
    said = f"; its last words: {last[:200]}" if last else ""
    return ChildFailure("crashed", f"{what} crashed its process ({how}){said}")


def _tail(printed: IO[bytes]) -> str:
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _TAIL_BYTES))
    return printed.read().decode(errors="replace")


def _stored_bytes(path: Path) -> int:
    states = [inner.stat() for inner in (path, *path.rglob("*")) if inner.is_file()]
    return sum(min(state.st_size, getattr(state, "st_blocks", sys.maxsize) * 512) for state in states)


# -- the child --------------------------------------------------------------------------------------------------


def _work(
    pipe: Connection,
    sink: int | None,
    parent: int,
    memory_bytes: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Answer with ("result", value), ("error", EdgedistillError), ("memory", None) or ("bug", (summary, traceback))."""
    _settle(sink, parent, memory_bytes)
    try:
        pipe.send(("result", function(*args, **kwargs)))
    except EdgedistillError as error:
        pipe.send(("error", error))
    except MemoryError:
        pipe.send(("memory", None))
    except BaseException as error:  # the parent raises it
        starved = any(words in str(error) for words in _OUT_OF_MEMORY)
        summary = ascii(f"{type(error).__name__}: {error}".partition("\n")[0][:300])[1:-1]
        pipe.send(("memory", None) if starved else ("bug", (summary, traceback.format_exc())))
    # No exit handlers: those of vendors' libraries belong to the process that loaded them.
    sys.stdout.flush()
    sys.stderr.flush()
    pipe.close()
    os._exit(0)


def _settle(sink: int | None, parent: int, memory_bytes: int) -> None:
    for number, handler in ((signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)
    if sink is not None:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        output_is_aside()
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        # What stands there may be a live display's or a test's, which writes to the parent's streams.
        sys.stdout = sys.stderr = open(1, "w", errors="replace", closefd=False)  # noqa: SIM115
    if not _LINUX:
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    _limit_memory(memory_bytes)
    _leave_threads_behind()


def _leave_threads_behind() -> None:
    """Make libraries forget the threads that they had in the parent. These did not come along, and work handed to them would
    be waited for for ever."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)  # OpenMP's pool
    compiler = sys.modules.get("jax._src.interpreters.mlir")
    mlir = vars(compiler) if compiler is not None else {}
    if (pool := mlir.get("global_thread_pool")) is not None:
        # The one in which all of jax's compiler contexts verify. It must not be destroyed either: that joins its threads.
        _left_behind.append(pool)
        mlir["global_thread_pool"] = type(pool)()


_left_behind: list[Any] = []


def _limit_memory(memory_bytes: int) -> None:
    """RLIMIT_DATA counts private writable memory, the kind that is really taken; RLIMIT_AS would count what libraries only
    reserve, which is terabytes for some."""
    import resource

    status = Path("/proc/self/status").read_text()
    now = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:")), 0)
    with contextlib.suppress(ValueError, OSError):  # a lower limit of the user's stays
        resource.setrlimit(resource.RLIMIT_DATA, (now + memory_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
