"""A device that is a program of this machine: its shell is this machine's, its channel two pipes."""

from __future__ import annotations

import os
import select
import subprocess
from contextlib import suppress

from edgedistill.devices.channel import ChannelLostError


class PipeChannel:
    """See edgedistill.devices.channel.Channel."""

    def __init__(self, command: str) -> None:
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.process.stdin.fileno(), rest) :]
        except (OSError, ValueError) as error:
            raise ChannelLostError(str(error)) from error

    def receive(self, wait_s: float) -> bytes:
        assert self.process.stdout is not None
        try:
            if not select.select([self.process.stdout], [], [], wait_s)[0]:
                return b""
            data = os.read(self.process.stdout.fileno(), 1 << 18)
        except (OSError, ValueError) as error:
            raise ChannelLostError(str(error)) from error
        if not data:
            raise ChannelLostError("the connection ended")
        return data

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()
        self.process.wait(20)


class PipeTransport:
    """See edgedistill.devices.channel.Transport. `channels` are those that it opened."""

    name = "pipe"

    def __init__(self) -> None:
        self.channels: list[PipeChannel] = []

    def open(self, command: str) -> PipeChannel:
        self.channels.append(PipeChannel(command))
        return self.channels[-1]
