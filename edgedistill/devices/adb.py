"""The Android Debug Bridge as a way to a device, by adbutils: over USB and TCP, through the adb server of this machine."""

from __future__ import annotations

import select
import socket
import subprocess
from contextlib import suppress
from typing import Any

from edgedistill.base.errors import MissingDependencyError, UnreachableError, printable
from edgedistill.devices.channel import CONNECT_S, PIECE_BYTES, STUCK_S, ChannelLostError
from edgedistill.documents.devices import KnownDevice


class AdbTransport:
    """The way to a device that was allowed to be debugged from this machine."""

    def __init__(self, device: KnownDevice) -> None:
        self.name = device.name
        self._address = device.address

    def open(self, command: str) -> AdbChannel:
        """See Transport.open."""
        adbutils = _adbutils(self.name)
        client, wrong = _client(adbutils), _failures(adbutils)
        try:
            if self._address.port is None:
                return self._started(client, command)
            try:
                client.connect(self._address.serial, timeout=CONNECT_S)
                return self._started(client, command)
            except wrong:
                # The adb server takes a device that restarted for connected, and answers "offline", until it is told.
                client.disconnect(self._address.serial)
                client.connect(self._address.serial, timeout=CONNECT_S)
                return self._started(client, command)
        except wrong as error:
            raise self._refused(error) from error

    def _started(self, client: Any, command: str) -> AdbChannel:
        connection = client.device(self._address.serial).open_transport(timeout=CONNECT_S)
        # Not `shell:`: that has a terminal, which changes the bytes on their way.
        connection.send_command(f"exec:{command}")
        connection.check_okay()
        return AdbChannel(connection.conn)

    def _refused(self, error: Exception) -> UnreachableError:
        said = printable(str(error)) or type(error).__name__
        fix = f"see that this works: adb -s {self._address.serial} shell true"
        if "unauthorized" in said:
            fix = "unlock the device and allow debugging from this computer, then run the same command again"
        elif self._address.port is not None:
            fix = f"see that this works: adb connect {self._address.serial}"
        return UnreachableError(f"{self.name} does not answer ({said})", fix=fix)


def attached() -> tuple[tuple[str, str], ...]:
    """Serial and state (`device`, `unauthorized`, `offline`) of what the adb server of this machine knows; nothing where
    adbutils or adb is missing, or its server does not answer."""
    try:
        adbutils = _adbutils("a phone")
    except MissingDependencyError:
        return ()
    try:
        return tuple((found.serial, found.state) for found in _client(adbutils).list())
    except _failures(adbutils):
        return ()


def _client(adbutils: Any) -> Any:
    """A client of this machine's adb server, which is started first where there is none: adbutils would too, and let it
    write into what a command shows."""
    client = adbutils.AdbClient()
    with suppress(OSError):
        socket.create_connection((client.host, client.port), 1.0).close()
        return client
    with suppress(OSError, subprocess.SubprocessError, RuntimeError):
        command = [adbutils.adb_path(), "start-server"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=CONNECT_S, check=False)
    return client


def _failures(adbutils: Any) -> tuple[type[Exception], ...]:
    """What adbutils raises where the device or the adb server does not answer, or adb does not start one."""
    return (adbutils.AdbError, OSError, RuntimeError, subprocess.SubprocessError)


def _adbutils(name: str) -> Any:
    try:
        import adbutils
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is reached over ADB, which needs adbutils", fix="pip install 'edgedistill[devices]'"
        ) from error
    return adbutils


class AdbChannel:
    """One program. See Channel."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        # Directions are timed apart, which a socket's one timeout cannot.
        self._socket.setblocking(True)

    def send(self, data: bytes) -> None:
        """See Channel.send."""
        rest = memoryview(data)
        try:
            while rest:
                if not _ready(self._socket, STUCK_S, write=True):
                    raise ChannelLostError(f"it took no data for {STUCK_S:.0f} s")
                with suppress(BlockingIOError):
                    rest = rest[self._socket.send(rest[:PIECE_BYTES], socket.MSG_DONTWAIT) :]
        except (OSError, ValueError) as error:
            raise ChannelLostError(printable(str(error))) from error

    def receive(self, wait_s: float) -> bytes:
        """See Channel.receive."""
        try:
            if not _ready(self._socket, wait_s):
                return b""
            data = self._socket.recv(PIECE_BYTES)
        except (OSError, ValueError) as error:
            raise ChannelLostError(printable(str(error))) from error
        if not data:
            raise ChannelLostError("the connection ended")
        return data

    def close(self) -> None:
        """See Channel.close."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._socket.close()


def _ready(connection: socket.socket, wait_s: float, *, write: bool = False) -> bool:
    """Whether a socket can be read, or written to, within `wait_s`."""
    poll = select.poll()
    poll.register(connection, select.POLLOUT if write else select.POLLIN)
    return bool(poll.poll(1000 * wait_s))
