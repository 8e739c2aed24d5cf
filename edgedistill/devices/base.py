"""What a device is: five methods. How it is asked for sessions, and how the agent's answer is read, wherever it ran."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.base.isolation import ProcessFailure
from edgedistill.devices.agent import agent, agent_sampling
from edgedistill.devices.session import SessionJob, SessionReport, Timed

AGENT = Path(agent.__file__)
# What a device has to be sent, all into one folder under these names: the agent and what it loads from beside it.
AGENT_FILES = (AGENT, *(AGENT.with_name(f"{name}.py") for name in ("agent_machine", "agent_heat", "agent_sampling")))

SESSION_GRACE_S = 120.0
"""For all of a session but its samples: load, warm-up, operators."""
EXPORT_AGAIN = "the file is damaged, or its runtime has a fault: export it again, or bring a newer runtime"


class SessionFailure(ProcessFailure):
    """The agent could not load or run the model, or ended without an answer: it concerns this model alone. `kind` is the
    agent's word for it (`load`, `run`, `memory`), or `crashed`, `killed`, `timeout`."""


def too_slow(what: str, seconds: float) -> SessionFailure:
    """The failure of a session that was stopped after so many seconds."""
    message = f"{what} gave no answer in {seconds:.0f} s and was stopped"
    return SessionFailure("timeout", message, fix="take a smaller model: this one is too slow, or never ends")


class Device(Protocol):
    """A device that can be reached: this machine, or one attached to it."""

    def connect(self) -> None:
        """Check that the device answers and has what every session needs. Raises UnreachableError if it does not answer,
        MissingDependencyError if it lacks something. A format's runtime is looked for by the session that loads it."""

    def push(self, path: Path) -> Path:
        """Bring a file or folder to the device; returns its path there. Raises InputError if it does not exist."""

    def run(self, job: SessionJob) -> SessionReport:
        """One measuring session in a process of its own; the job's paths are the device's (as `push` returned them).
        One session at a time. Raises SessionFailure where the model is at fault, InputError where the job is,
        MissingDependencyError where the device lacks the runtime of the job's format."""

    def facts(self, runtime: str = "") -> dict[str, str]:
        """What the device is, by name, for people: processor, cores, memory, system, and the version of the distribution
        `runtime` there. `id` tells a device elsewhere from others that are alike."""

    def close(self) -> None:
        """Let go of the device: nothing of ours stays on it. Another request connects again."""


def run_pushed(device: Device, job: SessionJob) -> SessionReport:
    """One session of a job whose files lie here: they are brought to the device first. Raises as Device.push and run do."""
    here = {"model": job.model, "loader": job.loader, "inputs": job.inputs, "anchor": job.anchor}
    return device.run(job.model_copy(update={name: path and device.push(path) for name, path in here.items()}))


def sample(models: Sequence[Timed], job: SessionJob) -> dict[str, Any]:
    """A session's samples for a runtime that measures in its own process, taken as the agent takes them. See Sampler."""
    warmup_runs = agent_sampling.warm_up(models)
    taken = agent_sampling.take_samples(models, job.seconds, job.min_runs, job.burst_s)
    return agent_sampling.as_fields(taken, warmup_runs)


def read_report(answer: str) -> SessionReport:
    """The agent's answer as a SessionReport. Raises what Device.run does for an answer that is an error, ValueError for one
    that is neither."""
    document = json.loads(answer)
    if not isinstance(document, dict):
        raise ValueError("an answer is a JSON object")
    if error := document.get("error"):
        kind, message, fix = error["kind"], error["message"], error["fix"]
        if kind in ("load", "run", "memory"):
            raise SessionFailure(kind, message, fix=fix)
        if kind == "runtime":
            raise MissingDependencyError(message, fix=fix)
        raise InputError(message, fix=fix)
    return SessionReport.model_validate(document)
