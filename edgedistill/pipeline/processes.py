"""Processes that work for this one, each at one thing at a time, spoken to over a pipe: no thread of this process is needed
for that, and beside threads no child can safely be forked, as converters are (edgedistill/base/isolation.py)."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, TypeVar

from edgedistill.base.errors import EdgedistillError
from edgedistill.base.isolation import ChildBug
from edgedistill.base.progress import Event, Listener, silent

R = TypeVar("R")
_CONTEXT = get_context("spawn")
_END_S = 10.0
"""How long an interrupted process may take to leave its work in order."""


class WorkerDied(Exception):
    """A process ended before it answered; the message says how."""


class Worker:
    """A fresh interpreter that calls functions of modules, whose arguments and results are pickled. It ends with this
    process, however this one ends. Between calls it waits, and takes no time of a processor."""

    def __init__(self) -> None:
        self.connection, there = _CONTEXT.Pipe()
        # No daemon: those may have no children, and loaders of data are some.
        self._process = _CONTEXT.Process(target=_serve, args=(there,))
        # A process takes over the signals that are held back where it is started: Ctrl-C reaches the whole group, and a
        # worker that is still importing would answer with a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        # Whoever forgets it must not wait for it for ever: at its exit Python joins such processes.
        atexit.register(self.end)

    @property
    def process_id(self) -> int:
        """The system's number of it."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call `function(*arguments, tell)` there, where `tell` hands an event to `heard`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died while it waited, which `heard` says
            self.connection.send((function, arguments))

    def heard(self) -> tuple[Event | None, Any]:
        """The next event of the call that was begun, else None with its result. Raises WorkerDied, the EdgedistillError that
        the function raised, and ChildBug for any other exception of it."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise WorkerDied(self._end()) from None
        if kind == "told":
            return value, None
        if kind == "done":
            return None, value
        if isinstance(value, EdgedistillError):
            raise value
        raise ChildBug("work", *value)

    def call(self, function: Callable[..., Any], *arguments: Any, listener: Listener = silent) -> Any:
        """What `function(*arguments, tell)` returns. Raises what `heard` does."""
        self.begin(function, *arguments)
        while True:
            event, result = self.heard()
            if event is None:
                return result
            listener(event)

    def interrupt(self) -> None:
        """End it, whatever it is at, as Ctrl-C does; waits until its work is in order."""
        if self._process.is_alive():
            os.kill(self.process_id, signal.SIGINT)
        self.end(_END_S)

    def end(self, patience_s: float = 1.0) -> None:
        """End it. One that is at something is waited for so long."""
        atexit.unregister(self.end)
        self.connection.close()
        self._process.join(patience_s)
        self._process.kill()
        self._process.join()

    def _end(self) -> str:
        self.end()
        code = self._process.exitcode or 0
        if code >= 0:
            return f"its process ended with code {code}"
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (", most often out of memory" if name == "SIGKILL" else "")


def _serve(connection: Connection) -> None:
    """The worker's own life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = parent_process()
    assert parent is not None
    Thread(target=_end_after, args=(parent,), daemon=True).start()

    def tell(event: Event) -> None:
        connection.send(("told", event))

    while True:
        try:
            function, arguments = connection.recv()
            signal.signal(signal.SIGINT, _interrupted)
            answer = ("done", function(*arguments, tell))
        except (EOFError, KeyboardInterrupt, BrokenPipeError):
            return
        except EdgedistillError as error:
            answer = ("raised", error)
        except Exception as error:
            answer = ("raised", (f"{type(error).__name__}: {error}", traceback.format_exc()))
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        connection.send(answer)


def _interrupted(number: int, frame: object) -> None:
    """Ctrl-C, once: a second one must not disturb how the first is answered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
