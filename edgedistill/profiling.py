"""`edgedistill profile`: the latency of any ONNX, LiteRT or ExecuTorch file on a target's device."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from edgedistill.config import ProfileConfig
from edgedistill.devices.attach import attach
from edgedistill.devices.base import MEASURED_FORMATS, run_pushed
from edgedistill.devices.stats import measured_latency, samples_needed
from edgedistill.errors import UnsupportedError
from edgedistill.opening import format_of, open_file, reading
from edgedistill.progress import Listener, StageFinished, StageStarted
from edgedistill.results import ProfileResult
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import MeasurementProtocol
from edgedistill.specs import Format, Percentile, Target


def profile_file(path: Path, target: Target, listener: Listener, sessions: int = 3) -> ProfileResult:
    """So many sessions of `path` with random inputs of its own signature, and its operators by time where its runtime tells
    them.

    Raises InputError for a file that is not a model in ONNX, LiteRT or ExecuTorch, UnsupportedError for a target that does
    not measure its format, UnreachableError where its device does not answer, MissingDependencyError where the format's
    runtime is absent.
    """
    format = format_of(path)
    measured = _measured_on(target)
    if format not in measured:
        others = f"only {', '.join(measured)}" if measured else "no files but a build's own"
        fix = target.how_to_measure or "choose a target that runs it (edgedistill targets)"
        if target.transport == "local" and measured:
            fix = f"export the model as {' or '.join(measured)} and measure that file: latency is the file's own"
        raise UnsupportedError(
            f"{path.name} is {format}; {others} can be measured on {target.title}",
            fix=fix,
        )
    artifact = reading(path, open_file, path, target).artifact
    device = attach(target, listener)
    config = ProfileConfig()
    protocol = MeasurementProtocol(
        target=target,
        sessions=sessions,
        pause_s=config.pause / 1000,
        max_samples=config.max_samples,
        max_seconds=config.max_seconds,
        operators=True,
        execute=partial(run_pushed, device),
        min_samples=samples_needed(Percentile.P95.fraction),
    )
    listener(StageStarted("profile", path.name, sessions))
    began = time.monotonic()
    profile = runtime_for(format).profile(artifact, None, protocol)
    listener(StageFinished("profile", path.name, time.monotonic() - began, reused=False))
    notes = ["inputs are random numbers of the file's own types and shapes"]
    if not profile.op_timings:
        notes.append(f"operators are not timed: {profile.environment.runtime} does not tell their times here")
    if any(session.noisy for session in profile.sessions):
        notes.append("some sessions stayed noisy when measured again: close other programs and repeat")
    if aside := sum(session.set_aside for session in profile.sessions):
        notes.append(f"{aside:,} more samples are set aside: the processor was at another speed meanwhile")
    return ProfileResult(
        path=str(path),
        format=format,
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        latency=measured_latency(profile),
        peak_memory_bytes=max(session.peak_memory_bytes for session in profile.sessions),
        load_ms=sorted(session.load_ms for session in profile.sessions)[len(profile.sessions) // 2],
        op_timings=tuple(sorted(profile.op_timings, key=lambda timing: -timing.median_us)),
        environment=profile.environment,
        notes=tuple(notes),
    )


def _measured_on(target: Target) -> tuple[Format, ...]:
    """What the agent measures on `target`: everything on this machine, elsewhere what the target takes. It runs on the CPU:
    nothing where the budget is held against another processor."""
    if target.runtime not in MEASURED_FORMATS:
        return ()
    if target.transport == "local":
        return MEASURED_FORMATS
    return tuple(format for format in target.formats if format in MEASURED_FORMATS)
