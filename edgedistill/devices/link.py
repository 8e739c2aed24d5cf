"""The host's side of the server on a device (agent/agent_server.py): requests out, answers in, one connection."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgedistill.base.errors import EdgedistillError, InputError, UnreachableError, printable
from edgedistill.base.progress import Listener, Note
from edgedistill.devices.agent import agent_server
from edgedistill.devices.channel import Channel, ChannelLostError, SessionLostError, Transport
from edgedistill.devices.servers import Server

LINE_BYTES = 2 * agent_server.ANSWER_BYTES
CHUNK_BYTES = 1 << 18
GREETING_S = 30.0
"""For a login and an interpreter's start on a slow board."""
END_S = 10.0
GREETING_BYTES = 1 << 16
"""What a shell may say before the server does: a banner, a message of the day."""


class Link:
    """One connection to a server that runs. Raises where it is made as Transport.open does, UnreachableError where no server
    starts there."""

    def __init__(self, transport: Transport, server: Server, folder: str, listener: Listener) -> None:
        self._name, self._listener, self._server = transport.name, listener, server
        self._channel: Channel = transport.open(server.command(folder))
        self._kept = b""
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self.present: dict[str, int] = {}
        """Bytes of each file that is there, by its name there; the one used last comes last."""
        try:
            self._begin()
            threading.Thread(target=self._keep_alive, name=f"alive {self._name}", daemon=True).start()
            for name, path in server.files.items():
                self.put(path, name)
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        try:
            if self._server.asks:
                self._greeted(self._server.asks)
            with suppress(ChannelLostError):  # a shell that ended has said why
                self._channel.send(self._server.payload())
            hello = _answer(self._greeted(b'{"edgedistill"'))
            if hello.get("edgedistill") != agent_server.PROTOCOL:
                raise ChannelLostError("it was built from the sources of another release: build it again")
        except ChannelLostError as error:
            raise UnreachableError(
                f"{self._name} was reached, but nothing of ours runs there: {error}", fix=self._server.fix
            ) from error

    def _greeted(self, beginning: bytes) -> bytes:
        """Wait for a line that begins so, past whatever a login shell prints before it. Raises ChannelLostError."""
        said, end = self._kept, time.monotonic() + GREETING_S
        while (left := end - time.monotonic()) > 0 and len(said) < GREETING_BYTES:
            for line in said.splitlines(keepends=True):
                if line.endswith(b"\n") and line.startswith(beginning):
                    self._kept = said.partition(line)[2]
                    return line
                if line.endswith(b"\n") and line.startswith(b'{"error"'):
                    self._fail(_answer(line).get("error"))
            try:
                said += self._channel.receive(left)
            except ChannelLostError:
                raise ChannelLostError(f"the shell ended; it said: {_shown(said)}") from None
        raise ChannelLostError(f"no answer in {GREETING_S:.0f} s; the shell said: {_shown(said)}")

    # -- requests ---------------------------------------------------------------------------------------------------

    def put(self, path: Path, name: str) -> None:
        """Bring a file, under that name. Raises ChannelLostError, UnreachableError where the device has no room."""
        if name in self.present:
            self.present[name] = self.present.pop(name)
            return
        size, sha256 = path.stat().st_size, hashlib.sha256()
        with path.open("rb") as stream:
            for part in iter(lambda: stream.read(CHUNK_BYTES), b""):
                sha256.update(part)
            stream.seek(0)
            with self._sending:
                self._write({"put": name, "bytes": size, "sha256": sha256.hexdigest()})
                left = size
                while left:
                    part = stream.read(min(CHUNK_BYTES, left))
                    if not part:
                        self.close()
                        raise InputError(
                            f"{path} became shorter while it was sent", fix="leave the file alone meanwhile"
                        )
                    self._channel.send(part)
                    left -= len(part)
        self._expect("done", agent_server.SILENCE_S)
        self.present[name] = size

    def drop(self, name: str) -> None:
        """Remove a file there. Raises ChannelLostError."""
        self._ask({"drop": name})
        self._expect("done", agent_server.SILENCE_S)
        self.present.pop(name, None)

    def facts(self, distribution: str) -> dict[str, str]:
        """What the device is. Raises ChannelLostError."""
        self._ask({"facts": distribution, **self._server.in_requests})
        told = self._expect("facts", agent_server.SILENCE_S)
        if not isinstance(told, dict):
            raise ChannelLostError(f"its facts are none: {_shown(repr(told).encode())}")
        return {printable(str(name)): printable(str(value)) for name, value in told.items()}

    def run(self, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """One session: `{"answer": TEXT}`, `{"timeout": True}` or `{"ended": CODE, "said": TEXT}`. Raises
        ChannelLostError, SessionLostError once the session has begun."""
        self._ask({"run": {**job, **self._server.in_requests}, "limit_s": limit_s})
        first = self._next(agent_server.SILENCE_S)
        if waiting := first.get("waiting"):
            self._listener(Note(f"waiting for {printable(str(waiting))} on {self._name}", once=f"turn on {self._name}"))
            first = self._next(None)
        while "waiting" in first:
            first = self._next(None)
        if "started" not in first:
            raise ChannelLostError(f"it did not begin to measure: {_shown(json.dumps(first).encode())}")
        try:
            return self._next(limit_s + agent_server.SILENCE_S)
        except ChannelLostError as error:
            raise SessionLostError(str(error)) from error

    def end(self) -> bool:
        """Have the server remove what it kept, and end the connection; whether it said that it did. For a server that has
        nothing to do: one that measures is closed."""
        try:
            self._ask({"end": True})
            self._expect("done", END_S)
            return True
        except (ChannelLostError, EdgedistillError):
            return False
        finally:
            self.close()

    def close(self) -> None:
        """End the connection; the server there ends as soon as it sees that, and removes what it kept."""
        self._closed.set()
        self._channel.close()

    # -- lines ------------------------------------------------------------------------------------------------------

    def _ask(self, request: dict[str, Any]) -> None:
        with self._sending:
            self._write(request)

    def _write(self, request: dict[str, Any]) -> None:
        self._channel.send(json.dumps(request).encode() + b"\n")

    def _expect(self, name: str, within_s: float) -> Any:
        """The value `name` of the next answer. Raises ChannelLostError for another one."""
        answer = self._next(within_s)
        if name not in answer:
            raise ChannelLostError(f"it answered something else: {_shown(json.dumps(answer).encode())}")
        return answer[name]

    def _next(self, within_s: float | None) -> dict[str, Any]:
        """The next answer that is not only a sign of life. Raises ChannelLostError where none comes within `within_s` (None:
        however long), no sign of life for SILENCE_S, or what comes is no answer."""
        end = time.monotonic() + within_s if within_s is not None else float("inf")
        while True:
            answer = _answer(self._line(end))
            if error := answer.get("error"):
                self._fail(error)
            if "alive" not in answer:
                return answer
            if time.monotonic() > end:
                raise ChannelLostError("it gave no answer in time")

    def _line(self, end: float) -> bytes:
        """The next line. Each piece of it may take SILENCE_S, and all of it until `end` (of time.monotonic) and SILENCE_S
        more."""
        parts, size = [self._kept], len(self._kept)
        while b"\n" not in parts[-1]:
            if time.monotonic() > end + agent_server.SILENCE_S:
                raise ChannelLostError("it gave no answer in time")
            if size > LINE_BYTES:
                raise ChannelLostError(f"it said more than {LINE_BYTES >> 20} MiB without the end of a line")
            part = self._channel.receive(agent_server.SILENCE_S)
            if not part:
                raise ChannelLostError(f"it said nothing for {agent_server.SILENCE_S:.0f} s")
            parts.append(part)
            size += len(part)
        line, _, self._kept = b"".join(parts).partition(b"\n")
        return line

    def _fail(self, error: Any) -> None:
        """Raise what a refused request means."""
        told = error if isinstance(error, dict) else {}
        kind, message = str(told.get("kind")), printable(str(told.get("message")))
        if kind == "disk":
            raise UnreachableError(
                f"{self._name} has no room: {message}",
                fix="free some room there, or name another folder: `folder` in your devices.toml",
            )
        if kind == "cpus":
            raise InputError(f"{self._name}: {message}", fix="set fewer threads in the target")
        if kind == "hash":
            raise ChannelLostError(f"a file arrived damaged: {message}")
        raise ChannelLostError(f"it refused a request: {message}")

    def _keep_alive(self) -> None:
        """Say that this side is there: the server ends without."""
        while not self._closed.wait(agent_server.ALIVE_S):
            with suppress(ChannelLostError):
                self._ask({"alive": True})


def _answer(line: bytes) -> dict[str, Any]:
    """The JSON object in a line. Raises ChannelLostError where it holds none."""
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ChannelLostError(f"it said what is no answer: {_shown(line)}")
    return answer


def _shown(data: bytes) -> str:
    """The beginning of what a device said, for a message."""
    text = printable(data[:200].decode("utf-8", "replace").strip().replace("\n", " | "))
    return repr(text) if text else "nothing"
