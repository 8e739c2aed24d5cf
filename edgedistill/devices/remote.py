"""A device that is reached through a channel: files go there when a session needs them, and the agent runs there.

A connection that is lost costs the session that was under way and no other: a session that gave no answer has no samples,
so that it is taken again over a new connection, and none counts twice.
"""

from __future__ import annotations

import hashlib
import re
import signal
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from edgedistill.base.errors import EdgedistillError, InputError, reworded
from edgedistill.base.isolation import Limits, death
from edgedistill.base.progress import Listener, silent
from edgedistill.devices.agent import agent_sampling, agent_server
from edgedistill.devices.base import EXPORT_AGAIN, SESSION_GRACE_S, SessionFailure, read_report, too_slow
from edgedistill.devices.channel import (
    PAUSES_S,
    ChannelLostError,
    SessionLostError,
    Transport,
    lost_for_good,
    over_connections,
)
from edgedistill.devices.link import Link
from edgedistill.devices.servers import Server
from edgedistill.devices.session import SessionJob, SessionReport

R = TypeVar("R")

_PLACES = re.compile(rf"\S*/{agent_server.PREFIX}[^/\s]*/([\w.]+)")
KEPT_BYTES = 512 << 20
"""Files of earlier sessions that stay on the device."""


class RemoteDevice:
    """The device behind `transport`. `server` is what answers there, `folder` where files are kept meanwhile, empty for its
    temporary folder. `listener` hears of waits and lost connections."""

    def __init__(self, transport: Transport, server: Server, listener: Listener = silent, *, folder: str = "") -> None:
        self._transport, self._listener = transport, listener
        self._server, self._folder = server, folder
        self._link: Link | None = None
        self._facts: dict[str, dict[str, str]] = {}
        self._names: dict[tuple[Path, int, int], str] = {}
        self._paths: dict[str, Path] = {}
        self._sent: dict[str, Path] = {}
        self._archives: tempfile.TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        """How people know it."""
        return self._transport.name

    def connect(self) -> None:
        """See that it answers and has what every session needs. See Device.connect."""
        try:
            found = self._linked().facts("numpy")
        except ChannelLostError as error:
            self._drop()
            raise lost_for_good(self.name, error) from error
        self._server.require(found, self.name)

    def push(self, path: Path) -> Path:
        """The name under which the file is there whenever a session needs it: its content's hash, so that no user's name
        gets there. A folder goes as one file, a ZIP archive of it. Raises InputError if it does not exist."""
        if not path.exists():
            raise InputError(f"{path} does not exist", fix="check the path")
        states = [one.stat() for one in (path, *path.rglob("*"))]
        key = (path.absolute(), sum(state.st_size for state in states), max(state.st_mtime_ns for state in states))
        if key not in self._names:
            sent = path if path.is_file() else self._archive(path)
            with sent.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            suffix = path.suffix.lower()
            self._names[key] = digest[:40] + (suffix if suffix[1:].isalnum() and suffix.isascii() else "")
            self._sent[self._names[key]] = sent
        self._paths[self._names[key]] = path
        return Path(self._names[key])

    def run(self, job: SessionJob) -> SessionReport:
        """One session, once no other one measures there. See Device.run. Raises UnreachableError where the device is lost
        and does not come back."""
        files = {path.name: self._paths[path.name] for path in (job.model, job.loader, job.inputs, job.anchor) if path}
        # Without the device's name, which may be an address: why a candidate failed stands in results.
        what = f"measuring {files[job.model.name].name}"
        limits = Limits(
            SESSION_GRACE_S + agent_sampling.HARD_LIMIT_FACTOR * job.seconds,
            sum(Limits.for_file(files[path.name]).memory_bytes for path in (job.model, job.anchor) if path),
        )
        request = job.model_dump(mode="json") | {"memory_bytes": limits.memory_bytes}
        lost: list[SessionLostError] = []

        def session(link: Link) -> SessionReport:
            self._bring(link, files)
            ended = link.run(request, limits.seconds)
            if "timeout" in ended:
                raise too_slow(what, limits.seconds)
            if (code := ended.get("ended")) in (-signal.SIGKILL, -signal.SIGTERM):
                # By a person, or by a system that ran short of memory: one time says nothing of the model.
                raise SessionLostError(f"its agent was killed by signal {-code}")
            if "answer" not in ended:
                failure = death(what, limits.memory_bytes, int(ended.get("ended", 1)), str(ended.get("said", "")))
                raise SessionFailure(failure.kind, failure.message, fix=failure.fix or EXPORT_AGAIN)
            try:
                # The agent knows a file by where it lies there, which tells a person nothing.
                with reworded(lambda text: _PLACES.sub(lambda found: str(files.get(found[1], found[0])), text)):
                    return read_report(str(ended["answer"]))
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                raise ChannelLostError(f"its agent gave no report: {str(error).splitlines()[0]}") from error

        def counted(link: Link) -> SessionReport:
            try:
                return session(link)
            except SessionLostError as error:
                lost.append(error)
                raise

        report = self._trying(counted, what)
        return report.model_copy(update={"session": report.session.model_copy(update={"retaken": len(lost)})})

    def facts(self, runtime: str = "") -> dict[str, str]:
        """What it is; asked once. See Device.facts."""
        if runtime not in self._facts:
            self._facts[runtime] = self._trying(lambda link: link.facts(runtime), f"asking {self.name} what it is")
        return self._facts[runtime]

    def close(self) -> None:
        """Leave nothing on the device, and end the connection, if there is one. The next request makes another."""
        link, self._link = self._link, None
        if link is not None and not link.end():
            # It is lost, and a server that was killed left its files there: another one removes them.
            with suppress(EdgedistillError, ChannelLostError):
                self._linked().end()
            self._link = None

    def _archive(self, folder: Path) -> Path:
        """A ZIP archive of a folder, the same bytes for the same content; it goes with this object."""
        if self._archives is None:
            self._archives = tempfile.TemporaryDirectory(prefix="edgedistill-archives-")
        path = Path(self._archives.name) / f"{len(self._sent)}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(one for one in folder.rglob("*") if one.is_file()):
                name = (Path(folder.name) / file.relative_to(folder)).as_posix()
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
        return path

    def _drop(self) -> None:
        """End a connection that is lost, or in the middle of a session."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _linked(self) -> Link:
        if self._link is None:
            self._link = Link(self._transport, self._server, self._folder, self._listener)
        return self._link

    def _trying(self, work: Callable[[Link], R], what: str) -> R:
        """What `work` returns, over a new connection where one is lost. Raises UnreachableError where the device does not
        come back or cannot be talked to, SessionFailure where each session takes it down."""
        try:
            return over_connections(self.name, self._linked, work, self._drop, self._listener)
        except SessionLostError as error:
            raise SessionFailure(
                "killed",
                f"{what} failed {1 + len(PAUSES_S)} times ({error})",
                fix="take a smaller model if the device ran out of memory; `edgedistill devices check` tries it without "
                "one",
            ) from error
        except ChannelLostError as error:
            raise lost_for_good(self.name, error) from error

    def _bring(self, link: Link, files: dict[str, Path]) -> None:
        """Have `files` there, and of others no more than KEPT_BYTES."""
        for name, path in files.items():
            link.put(self._sent.get(name, path), name)
        others = {
            name: size for name, size in link.present.items() if name not in files and name not in self._server.files
        }
        over = sum(others.values()) - KEPT_BYTES
        for name, size in others.items():
            if over <= 0:
                break
            link.drop(name)
            over -= size
