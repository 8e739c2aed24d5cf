"""SSH as a way to a device, by asyncssh: the user's keys, agent, `~/.ssh/config` and known hosts; jump hosts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from edgedistill.base.errors import MissingDependencyError, UnreachableError, printable
from edgedistill.devices.channel import CONNECT_S, PIECE_BYTES, STUCK_S, ChannelLostError
from edgedistill.documents.devices import KnownDevice

if TYPE_CHECKING:
    import asyncssh

R = TypeVar("R")


class SshTransport:
    """The way to a device. Host keys are checked against the user's known hosts; a password is never asked for."""

    def __init__(self, device: KnownDevice) -> None:
        self.name = device.name
        self._device = device

    def open(self, command: str) -> SshChannel:
        """See Transport.open."""
        try:
            import asyncssh
        except ImportError as error:
            raise MissingDependencyError(
                f"{self.name} is reached over SSH, which needs asyncssh", fix="pip install 'edgedistill[devices]'"
            ) from error
        loop = _Loop()
        try:
            return SshChannel(loop, *loop.wait(self._started(command), CONNECT_S + 5))
        except BaseException as error:
            loop.close()
            if isinstance(error, (OSError, asyncssh.Error, ValueError)):
                raise self._refused(error) from error
            raise

    async def _started(self, command: str) -> tuple[asyncssh.SSHClientConnection, asyncssh.SSHClientProcess[bytes]]:
        import asyncssh

        config, address = self._device.config, self._device.address
        options: dict[str, Any] = {
            "username": address.user or None,
            "port": address.port,
            "client_keys": [str(config.key)] if config.key else None,
            "known_hosts": str(config.known_hosts) if config.known_hosts else None,
            "tunnel": config.jump or None,
        }
        connection = await asyncssh.connect(
            address.host,
            connect_timeout=CONNECT_S,
            # What is left out comes from ~/.ssh/config, and where that says nothing is as for ssh itself.
            **{name: value for name, value in options.items() if value is not None},
        )
        process = await connection.create_process(command, encoding=None, stderr=asyncssh.STDOUT)
        return connection, process

    def _refused(self, error: Exception) -> UnreachableError:
        """Why there is no connection, and the way out."""
        import asyncssh

        config, address = self._device.config, self._device.address
        port = f"-p {address.port} " if address.port else ""
        by_hand = f"ssh {port}{f'{address.user}@' if address.user else ''}{address.host}"
        said = printable(str(error)) or type(error).__name__
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            listed = config.known_hosts or "~/.ssh/known_hosts"
            return UnreachableError(
                f"the host key of {self.name} is not the one that {listed} has of it, or it has none ({said})",
                fix=f"compare the fingerprint with the device's own, then accept it once by hand: {by_hand}",
            )
        if isinstance(error, (asyncssh.PermissionDenied, asyncssh.KeyImportError)):
            return UnreachableError(
                f"{self.name} does not let us in ({said})",
                fix=f"have a key there that needs no password, or one in your SSH agent: `{by_hand}` must not ask for any",
            )
        if isinstance(error, TimeoutError):
            said = f"no answer in {CONNECT_S:.0f} s"
        return UnreachableError(f"{self.name} does not answer ({said})", fix=f"see that this works: {by_hand}")


class SshChannel:
    """One program, over a connection of its own. See Channel."""

    def __init__(
        self, loop: _Loop, connection: asyncssh.SSHClientConnection, process: asyncssh.SSHClientProcess[bytes]
    ) -> None:
        self._loop, self._connection, self._process = loop, connection, process

    def send(self, data: bytes) -> None:
        """See Channel.send."""
        try:
            for start in range(0, len(data), PIECE_BYTES):
                self._loop.wait(self._send(data[start : start + PIECE_BYTES]), STUCK_S)
        except TimeoutError as error:
            raise ChannelLostError(f"it took no data for {STUCK_S:.0f} s") from error
        except _lost() as error:
            raise ChannelLostError(_why(error)) from error

    def receive(self, wait_s: float) -> bytes:
        """See Channel.receive."""
        try:
            data = self._loop.wait(self._process.stdout.read(PIECE_BYTES), wait_s)
        except TimeoutError:
            return b""
        except _lost() as error:
            raise ChannelLostError(_why(error)) from error
        if not data:
            raise ChannelLostError("the connection ended")
        return data

    def close(self) -> None:
        """See Channel.close."""
        self._loop.call(self._connection.abort)
        self._loop.close()

    async def _send(self, data: bytes) -> None:
        self._process.stdin.write(data)
        await self._process.stdin.drain()


class _Loop:
    """An event loop in a thread of its own: sessions are taken by code that waits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, R], seconds: float) -> R:
        """What `work` returns. Raises TimeoutError after so long, ChannelLostError once closed."""
        if self._loop.is_closed() or not self._thread.is_alive():
            work.close()
            raise ChannelLostError("the connection was closed")
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop).result()

    def call(self, function: Any) -> None:
        """Have the loop do that, without waiting."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """End the thread."""
        self.call(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()


def _lost() -> tuple[type[BaseException], ...]:
    """What a read or write raises when the connection ends."""
    import asyncssh

    return (OSError, asyncssh.Error, asyncio.CancelledError)


def _why(error: BaseException) -> str:
    return printable(str(error)) or "the connection ended"
