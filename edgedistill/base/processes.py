"""Processes that work for this one, each at one thing at a time, spoken to over a pipe: no thread of this process is needed
for that, and beside threads no child can safely be forked, as converters are (edgedistill/base/isolation.py).

They are begun as commands, and not by multiprocessing: that imports the caller's own script again, where a build that no
`if __name__ == "__main__"` stands before would begin anew."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from edgedistill.base.errors import EdgedistillError
from edgedistill.base.isolation import ChildBug
from edgedistill.base.progress import Event, Listener, silent

_END_S = 10.0
"""How long an interrupted process may take to leave its work in order."""
_SERVE = "import sys; sys.path[:] = {path!r}; from edgedistill.base.processes import serve; serve({speak}, {alive})"


class WorkerDied(Exception):
    """A process ended before it answered; the message says how."""


class Worker:
    """A fresh interpreter that calls functions of modules, whose arguments and results are pickled. It ends with this
    process, however this one ends. Between calls it waits, and takes no time of a processor."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        # The end of this pipe that stays here closes when this process ends, and then the worker does too.
        alive, self._alive = os.pipe()
        command = _SERVE.format(path=sys.path, speak=there.fileno(), alive=alive)
        # A process takes over the signals that are held back where it is started: Ctrl-C reaches the whole group, and a
        # worker that is still importing would answer with a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen([sys.executable, "-c", command], pass_fds=(there.fileno(), alive))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            there.close()
            os.close(alive)
        self.connection = Connection(here.detach())
        atexit.register(self.end)

    @property
    def process_id(self) -> int:
        """The system's number of it."""
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
            raise WorkerDied(self._how_it_ended()) from None
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
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self.end(_END_S)

    def end(self, patience_s: float = 1.0) -> None:
        """End it. One that is at something is waited for so long."""
        atexit.unregister(self.end)
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._process.kill()
        self._process.wait()
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1  # the number may be another file's from here on

    def _how_it_ended(self) -> str:
        self.end()
        code = self._process.returncode
        if code >= 0:
            return f"its process ended with code {code}"
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (", most often out of memory" if name == "SIGKILL" else "")


def serve(speak: int, alive: int) -> None:
    """A worker's own life: it is asked and answers over the socket `speak`, and ends when the pipe `alive` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    Thread(target=_end_with, args=(alive,), daemon=True).start()
    connection = Connection(speak)

    def tell(event: Event) -> None:
        connection.send(("told", event))

    while True:
        try:
            function, arguments = connection.recv()
            signal.signal(signal.SIGINT, _interrupted)
            answer = ("done", function(*arguments, tell))
        except (EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
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


def _end_with(alive: int) -> None:
    os.read(alive, 1)
    os._exit(1)
