"""This machine as a device: the agent in a fresh child process, one session at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.base.isolation import Limits, death
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import tool_version
from edgedistill.devices.agent import agent_machine, agent_sampling, agent_server
from edgedistill.devices.base import AGENT, EXPORT_AGAIN, SESSION_GRACE_S, SessionFailure, read_report, too_slow
from edgedistill.devices.session import SessionJob, SessionReport
from edgedistill.devices.turns import measuring


def pick_cpus(threads: int) -> tuple[int, ...]:
    """The CPUs for a session here, as `best_cpus` of the agent chooses them. Raises InputError if fewer than `threads` are
    allowed."""
    fix = f"set threads = {len(agent_machine.allowed_cpus())} in the target, or widen the affinity or container limit"
    try:
        return tuple(agent_machine.best_cpus(threads))
    except ValueError as error:
        raise InputError(str(error), fix=fix) from None


class LocalDevice:
    """This machine. `listener` hears when a session waits for another build's, or for what trains here."""

    def __init__(self, listener: Listener = silent, lock_file: Path | None = None) -> None:
        self._listener = listener
        self._lock_file = lock_file

    def connect(self) -> None:
        """Nothing to do: this machine answers, and what every session needs is installed with edgedistill."""

    def push(self, path: Path) -> Path:
        """The absolute path itself: the file is already here."""
        if not path.exists():
            raise InputError(f"{path} does not exist", fix="check the path")
        return path.absolute()

    def run(self, job: SessionJob) -> SessionReport:
        """One session, pinned to the job's CPUs or else to those of `pick_cpus`. See Device.run."""
        pinned = job.pinned_cpus or pick_cpus(job.threads)
        limit_s = SESSION_GRACE_S + agent_sampling.HARD_LIMIT_FACTOR * job.seconds
        # A session holds as many copies as a reader: the file, the weights as the runtime packs them and the results between
        # operators, and all but the file once more while it times the operators.
        files = [path for path in (job.model, job.anchor) if path is not None]
        limits = Limits(limit_s, sum(Limits.for_file(path).memory_bytes for path in files))
        asked = job.model_copy(update={"pinned_cpus": pinned}).model_dump(mode="json")
        request = json.dumps(asked | {"memory_bytes": limits.memory_bytes})
        with measuring(self._listener, self._lock_file):
            return read_report(self._answer(f"measuring {job.model.name}", request, limits))

    def facts(self, runtime: str = "") -> dict[str, str]:
        """Processor, CPUs, memory and system of this machine, and the version of `runtime`, `absent` where it is not
        installed."""
        return agent_machine.facts() | ({runtime: tool_version(runtime)} if runtime else {})

    def close(self) -> None:
        """Nothing to do: sessions end with their processes, and nothing was brought here."""

    def _answer(self, what: str, request: str, limits: Limits) -> str:
        """Run the agent; its stdout. The child has a session of its own, so that Ctrl-C reaches only us and we end it
        (`subprocess.run` kills what it leaves)."""
        # -E and -P rather than -I: the latter hides the user's own site-packages, where `pip install --user` puts us.
        # Without -P the agent's folder would come first on the path and its neighbours would shadow other modules.
        command = [sys.executable, "-E", "-P", str(AGENT), "--parent", str(os.getpid())]
        try:
            done = subprocess.run(
                command,
                input=request,
                capture_output=True,
                encoding="utf-8",
                env=agent_server.agent_environment(),
                start_new_session=True,
                timeout=limits.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise too_slow(what, limits.seconds) from None
        if done.returncode < 0:
            failure = death(what, limits.memory_bytes, done.returncode, done.stderr)
            raise SessionFailure(failure.kind, failure.message, fix=failure.fix or EXPORT_AGAIN)
        if not done.stdout:
            raise RuntimeError(f"the measuring agent failed (exit code {done.returncode}):\n{done.stderr}")
        return done.stdout
