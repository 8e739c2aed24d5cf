"""`edgedistill profile`: the latency of any ONNX file on a target's device."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from edgedistill.artifacts import ProfileResult
from edgedistill.config import ProfileConfig
from edgedistill.devices.attach import attach
from edgedistill.devices.base import run_pushed
from edgedistill.devices.stats import measured_latency, samples_needed
from edgedistill.errors import UnsupportedError
from edgedistill.progress import Listener, StageFinished, StageStarted
from edgedistill.runtimes.base import MeasurementProtocol
from edgedistill.runtimes.onnxruntime import OnnxRuntime
from edgedistill.specs import Format, Percentile, Target


def profile_file(path: Path, target: Target, listener: Listener) -> ProfileResult:
    """Three sessions of `path` with random inputs of its own signature, and its operators by time.

    Raises InputError for a file that is not an ONNX model, UnsupportedError for a target whose runtime takes no ONNX,
    UnreachableError where its device does not answer.
    """
    if target.runtime is not Format.ONNX:
        raise UnsupportedError(
            f"{target.title} runs {target.runtime}, not ONNX files",
            fix=target.how_to_measure or "choose a target whose runtime is onnx (edgedistill targets)",
        )
    runtime = OnnxRuntime()
    artifact = runtime.adopt(path, target)
    device = attach(target, listener)
    config = ProfileConfig()
    protocol = MeasurementProtocol(
        target=target,
        sessions=config.sessions,
        pause_s=config.pause / 1000,
        max_samples=config.max_samples,
        max_seconds=config.max_seconds,
        operators=True,
        execute=partial(run_pushed, device),
        min_samples=samples_needed(Percentile.P95.fraction),
    )
    listener(StageStarted("profile", path.name, config.sessions))
    began = time.monotonic()
    profile = runtime.profile(artifact, None, protocol)
    listener(StageFinished("profile", path.name, time.monotonic() - began, reused=False))
    notes = ["inputs are random numbers of the file's own types and shapes"]
    if any(session.noisy for session in profile.sessions):
        notes.append("some sessions stayed noisy when measured again: close other programs and repeat")
    return ProfileResult(
        path=str(path),
        format=Format.ONNX,
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        latency=measured_latency(profile),
        peak_memory_bytes=max(session.peak_memory_bytes for session in profile.sessions),
        load_ms=sorted(session.load_ms for session in profile.sessions)[len(profile.sessions) // 2],
        op_timings=tuple(sorted(profile.op_timings, key=lambda timing: -timing.median_us)),
        environment=profile.environment,
        notes=tuple(notes),
    )
