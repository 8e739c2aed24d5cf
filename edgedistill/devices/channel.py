"""What carries bytes to and from a program on a device, whichever way the device is reached."""

from __future__ import annotations

from typing import Protocol

CONNECT_S = 20.0
STUCK_S = 30.0
"""For a piece of data to be taken by the other side."""
PIECE_BYTES = 1 << 18


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
