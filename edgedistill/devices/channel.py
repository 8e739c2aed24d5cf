"""What carries bytes to and from a program on a device, whichever way the device is reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from edgedistill.base.errors import UnreachableError
from edgedistill.base.progress import Listener, Note

C = TypeVar("C")
R = TypeVar("R")

CONNECT_S = 20.0
STUCK_S = 30.0
"""For a piece of data to be taken by the other side."""
PIECE_BYTES = 1 << 18
PAUSES_S = (1.0, 5.0, 20.0)
"""Before each further try: a board that restarts takes some time."""


class ChannelLostError(Exception):
    """Nothing more comes or goes: the connection broke, the device said something that is none of our answers, or it said
    nothing for too long. The message says which."""


class SessionLostError(ChannelLostError):
    """The same, while a session was under way: what it measured may have taken the device down."""


class Channel(Protocol):
    """Both directions of one running program. Not safe for several threads, but that one may send while another
    receives."""

    def send(self, data: bytes) -> None:
        """Hand over all of `data`. Raises ChannelLostError."""

    def receive(self, wait_s: float) -> bytes:
        """Whatever came next, at least one byte; empty if nothing came for `wait_s`. Raises ChannelLostError at the end of
        the program's output and where the connection is lost."""

    def close(self) -> None:
        """End the connection, whatever state it is in, and with it the program. Never raises."""


class Transport(Protocol):
    """A way to a device. `name` is how people know the device: `board`, `ssh://pi@board`."""

    name: str

    def open(self, command: str) -> Channel:
        """Run `command` by the shell of the device. Raises UnreachableError where the device does not answer or does not
        let us in, MissingDependencyError where this machine lacks what is needed."""


def over_connections(
    name: str, connect: Callable[[], C], work: Callable[[C], R], drop: Callable[[], None], listener: Listener
) -> R:
    """What `work` returns, over a new connection to the device `name` where one is lost; `drop` ends the old one. Raises
    UnreachableError where the first connection cannot be made, ChannelLostError where a lost one does not come back: the
    last loss itself, if it was of a connection."""
    lost: Exception | None = None
    for pause_s in (0.0, *PAUSES_S):
        if lost is not None:
            listener(Note(f"{name} is lost ({reason(lost)}); trying again in {pause_s:.0f} s", warning=True))
            time.sleep(pause_s)
        try:
            connection = connect()
        except UnreachableError as error:
            if lost is None:
                raise
            lost = error
            continue
        except ChannelLostError as error:
            lost = error
            drop()
            continue
        try:
            return work(connection)
        except ChannelLostError as error:
            lost = error
            drop()
        except KeyboardInterrupt:
            drop()
            raise
    assert lost is not None
    raise lost if isinstance(lost, ChannelLostError) else ChannelLostError(reason(lost)) from lost


def lost_for_good(name: str, error: ChannelLostError) -> UnreachableError:
    """The error of a command whose device does not come back."""
    return UnreachableError(
        f"{name} does not answer any more: {error}",
        fix="attach it, or wait until it is up, and run the same command again: finished sessions are kept",
    )


def reason(error: Exception) -> str:
    """What an error says, without its fix."""
    text: Any = getattr(error, "message", None) or str(error)
    return str(text)
