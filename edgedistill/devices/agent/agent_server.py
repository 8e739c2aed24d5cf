"""What answers on a device that is reached through a channel of bytes: it keeps files, runs the agent, and cleans up.

One process for one connection, started as devices/servers.py says, on Python 3.8 or newer with the standard
library alone. All that it keeps lies in a folder of its own, which goes when it ends. It ends when the channel does, when
the other side is silent for SILENCE_S, or by a signal; what is left by one that was killed, the next one removes.

Requests are JSON objects, one a line; so are the answers, which come in order:

- `{"put": NAME, "bytes": N, "sha256": HEX}`, then N bytes: they become the file NAME. `{"done": "put"}`
- `{"drop": NAME}`: the file goes. `{"done": "drop"}`
- `{"facts": DISTRIBUTION}`: what the device is. `{"facts": {...}}`
- `{"run": JOB, "limit_s": S}`: one session of the agent, whose job names files as they were put. `{"waiting": WHAT}` while
  another one measures here, `{"started": true}`, then `{"answer": TEXT}`, `{"timeout": true}` or `{"ended": CODE, "said":
  TEXT}`
- `{"end": true}`: all that was kept goes, then `{"done": "end"}`, and the server ends.
- `{"alive": true}`: no answer. The server says so too, every ALIVE_S.

A request that cannot be served is answered by `{"error": {"kind": ..., "message": ...}}`: `disk` (no room, or it may not be
written), `hash` (the bytes are not those that were meant), `cpus` (fewer than the job's threads), `request` (malformed).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL = 1
PREFIX = "edgedistill-device-"
NAME = re.compile(r"[0-9a-z][0-9a-z_]{0,80}(\.[0-9a-z]{1,16})?")
SILENCE_S = 30.0
ALIVE_S = 5.0
CHUNK_BYTES = 1 << 18
LINE_BYTES = 1 << 20
ANSWER_BYTES = 1 << 26
SAID_BYTES = 4000
# What an interpreter needs to start and to find its packages. Everything else stays out: preloaded allocators, thread
# counts and debug switches of the shell that happens to run a build would change the measurement.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def agent_environment() -> dict[str, str]:
    """The environment variables that the agent's process has."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}}


class Gone(Exception):
    """The channel has ended, or the other side is silent: the server ends."""


class Refused(Exception):
    """A request that cannot be served; `kind` is one of those in the module's docstring."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Line:
    """Both directions of the channel. It says that it is alive whenever it waits."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink
        self.kept = b""
        self.heard = self.told = time.monotonic()

    def tell(self, **answer: Any) -> None:
        """Send one answer. Raises Gone."""
        rest = memoryview(json.dumps(answer).encode() + b"\n")
        try:
            while rest:
                rest = rest[os.write(self.sink, rest) :]
        except OSError as error:
            raise Gone from error
        self.told = time.monotonic()

    def wait(self, seconds: float, *others: int) -> list[int]:
        """Wait until the other side says something, which is then kept, or one of `others` can be read, or for so long;
        returns those of `others` that can be read. Raises Gone at the channel's end and after SILENCE_S of silence."""
        now = time.monotonic()
        if now - self.told >= ALIVE_S:
            self.tell(alive=True)
        if now - self.heard >= SILENCE_S:
            raise Gone
        ready, _, _ = select.select([self.source, *others], [], [], max(0.0, min(seconds, ALIVE_S)))
        if self.source in ready:
            data = os.read(self.source, CHUNK_BYTES)
            if not data:
                raise Gone
            self.kept += data
            self.heard = time.monotonic()
        return [other for other in others if other in ready]

    def request(self) -> dict[str, Any]:
        """The next request. Raises Gone, and Refused for one that is none."""
        while True:
            while b"\n" not in self.kept:
                if len(self.kept) > LINE_BYTES:
                    raise Gone
                self.wait(ALIVE_S)
            line, _, self.kept = self.kept.partition(b"\n")
            try:
                asked = json.loads(line)
            except ValueError as error:
                raise Refused("request", f"no JSON: {error}") from error
            if not isinstance(asked, dict):
                raise Refused("request", "a request is a JSON object")
            if "alive" not in asked:
                return asked

    def data(self, count: int) -> Iterator[bytes]:
        """The next `count` bytes, in parts. Raises Gone."""
        while count:
            if not self.kept:
                self.wait(ALIVE_S)
                continue
            part, self.kept = self.kept[:count], self.kept[count:]
            count -= len(part)
            yield part


class Server:
    """Serves one channel. `base` is where its folder is made, the system's temporary folder if empty."""

    def __init__(self, line: Line, base: str) -> None:
        self.line = line
        self.folder, self.holding = own_folder(base)

    def serve(self) -> None:
        """Answer requests until the channel ends."""
        self.line.tell(edgedistill=PROTOCOL, python=sys.version.split()[0])
        while True:
            try:
                asked = self.line.request()
                self.answer(asked)
            except Refused as error:
                self.line.tell(error={"kind": error.kind, "message": str(error)})
            except (KeyError, TypeError, ValueError) as error:
                self.line.tell(error={"kind": "request", "message": f"{type(error).__name__}: {error}"})

    def answer(self, asked: dict[str, Any]) -> None:
        """Serve one request. Raises Gone and Refused."""
        if "put" in asked:
            self.put(self.place(asked["put"]), int(asked["bytes"]), str(asked["sha256"]))
            self.line.tell(done="put")
        elif "drop" in asked:
            with contextlib.suppress(FileNotFoundError):
                self.place(asked["drop"]).unlink()
            self.line.tell(done="drop")
        elif "end" in asked:
            self.close()
            self.line.tell(done="end")
            raise Gone
        elif "facts" in asked:
            machine = self.machine()
            self.line.tell(facts={**machine.facts(str(asked["facts"])), "id": machine.identity()})
        elif "run" in asked:
            self.run(dict(asked["run"]), float(asked["limit_s"]))
        else:
            raise Refused("request", f"nothing is known of {', '.join(sorted(asked)) or 'an empty request'}")

    def place(self, name: Any) -> Path:
        """Where the file of that name lies. Raises Refused for a name that is none of ours."""
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise Refused("request", f"{name!r} is no name of a file")
        return self.folder / name

    def machine(self) -> Any:
        """The module of the agent's file about the machine, which was put here."""
        spec = importlib.util.spec_from_file_location("agent_machine", self.place("agent_machine.py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def best_cpus(self, threads: int) -> list[int]:
        """Those for a session. Raises Refused."""
        try:
            found: list[int] = self.machine().best_cpus(threads)
        except ValueError as error:
            raise Refused("cpus", str(error)) from error
        return found

    def put(self, place: Path, count: int, sha256: str) -> None:
        """Keep the next `count` bytes. All are taken in any case, so that the next request is found behind them."""
        hashed, partial = hashlib.sha256(), place.with_name(place.name + ".part")
        failed: OSError | None = None
        stream: IO[bytes] | None = None
        try:
            stream = partial.open("wb")
        except OSError as error:
            failed = error
        for part in self.line.data(count):
            hashed.update(part)
            if stream is not None and failed is None:
                try:
                    stream.write(part)
                except OSError as error:
                    failed = error
        if stream is not None:
            try:
                stream.close()  # writes what is left, for which there may be no room either
            except OSError as error:
                failed = failed or error
        if failed is None and hashed.hexdigest() == sha256:
            partial.replace(place)
            return
        with contextlib.suppress(OSError):
            partial.unlink()
        if failed is None:
            raise Refused("hash", f"{count} bytes came with sha256 {hashed.hexdigest()}, not {sha256}")
        free = shutil.disk_usage(self.folder).free
        reason = failed.strerror or str(failed)
        raise Refused("disk", f"{count} bytes cannot be kept in {self.folder.parent}: {reason}; {free} bytes are free")

    def run(self, job: dict[str, Any], limit_s: float) -> None:
        """One session of the agent, when no other one measures on this device and nothing trains."""
        for name in ("model", "loader", "inputs", "anchor"):
            if job.get(name) is not None:
                job[name] = str(self.place(job[name]))
        with contextlib.ExitStack() as stack:
            measuring = Path(tempfile.gettempdir()) / f"edgedistill-measuring-{os.getuid()}.lock"
            self.take(stack, measuring, "another measurement")
            self.take(stack, measuring.with_name(f"{measuring.name}.training"), "a training")
            if not job.get("pinned_cpus"):
                job["pinned_cpus"] = self.best_cpus(int(job["threads"]))
            self.line.tell(started=True)
            self.line.tell(**self.session(json.dumps(job).encode(), limit_s))

    def take(self, stack: contextlib.ExitStack, path: Path, what: str) -> None:
        """Hold the lock on `path`, until `stack` ends. The kernel drops it with this process and hands it on in turn. To ask
        again and again would hardly meet the moment between two sessions of another build."""
        stream = stack.enter_context(path.open("a+"))
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            self.line.tell(waiting=what)
        held, holding = os.pipe()
        stack.callback(os.close, held)

        def wait() -> None:
            fcntl.flock(stream, fcntl.LOCK_EX)
            os.close(holding)

        threading.Thread(target=wait, daemon=True).start()
        while not self.line.wait(ALIVE_S, held):
            pass

    def session(self, request: bytes, limit_s: float) -> dict[str, Any]:
        """Run the agent; what it answered, or how it ended. Raises Gone, and then it runs no more."""
        place = str(self.folder)
        with tempfile.TemporaryFile(dir=place) as said, tempfile.TemporaryFile(dir=place) as asked:
            asked.write(request)
            asked.seek(0)
            agent = subprocess.Popen(
                [sys.executable, "-E", str(self.place("agent.py")), "--parent", str(os.getpid())],
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=said,
                env=agent_environment(),
                cwd=place,
                start_new_session=True,
            )
            try:
                answer = self.read(agent, time.monotonic() + limit_s)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(agent.pid, signal.SIGKILL)
                agent.wait()
                assert agent.stdout is not None
                agent.stdout.close()
            if answer is None:
                return {"timeout": True}
            if answer:
                return {"answer": answer.decode("utf-8", "replace")}
            size = said.seek(0, os.SEEK_END)
            said.seek(max(0, size - SAID_BYTES))
            return {"ended": agent.returncode, "said": said.read().decode("utf-8", "replace")}

    def read(self, agent: subprocess.Popen[bytes], end: float) -> bytes | None:
        """All that the agent writes until it ends; None where it has not by `end` (of time.monotonic) or writes without
        end."""
        assert agent.stdout is not None
        source, size = agent.stdout.fileno(), 0
        parts: list[bytes] = []
        while size <= ANSWER_BYTES and time.monotonic() < end:
            if self.line.wait(end - time.monotonic(), source):
                part = os.read(source, CHUNK_BYTES)
                if not part:
                    # Its exit code says how it ended, unless it lives on without an output.
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        agent.wait(timeout=5)
                    return b"".join(parts)
                parts.append(part)
                size += len(part)
        return None

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(str(self.folder), ignore_errors=True)
        self.holding.close()


def own_folder(base: str) -> tuple[Path, IO[str]]:
    """A new folder in `base`, and the file whose lock says that its server lives. Folders of servers that do not are
    removed: their lock is free. Raises OSError."""
    where = Path(base or tempfile.gettempdir())
    for other in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if other.stat().st_uid == os.getuid() and is_abandoned(other):
                shutil.rmtree(str(other), ignore_errors=True)
    # Under another name until its lock is held: a server that begins meanwhile would take it for an abandoned one.
    made = Path(tempfile.mkdtemp(prefix=".", suffix=PREFIX, dir=str(where)))
    holding = (made / ".alive").open("w")
    fcntl.flock(holding, fcntl.LOCK_EX)
    folder = where / f"{PREFIX}{os.getpid()}-{made.name[1:9]}"
    made.rename(folder)
    return folder, holding


def is_abandoned(folder: Path) -> bool:
    """Whether the server whose folder this is has ended."""
    try:
        with (folder / ".alive").open("r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True


def main(base: str = "") -> int:
    """Serve stdin and stdout until they end."""

    def end(number: int, frame: Any) -> None:
        raise Gone

    # adbd leaves its own end of the channel open in what it starts, which would then never see the channel end.
    os.closerange(3, 1024)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    line = Line(0, os.dup(1))
    # What a library prints must not come between the answers.
    os.dup2(2, 1)
    try:
        server = Server(line, base)
    except OSError as error:
        where = base or tempfile.gettempdir()
        with contextlib.suppress(Gone):
            line.tell(error={"kind": "disk", "message": f"no folder can be made in {where}: {error}"})
        return 1
    try:
        server.serve()
    except Gone:
        return 0
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        server.close()
    return 0
