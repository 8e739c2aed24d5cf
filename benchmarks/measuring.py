"""One session of a model file on this machine, as the benchmarks time files beside each other."""

from __future__ import annotations

from functools import partial

from edgedistill.artifacts import CompiledArtifact
from edgedistill.devices.base import run_pushed
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.stats import measured_latency
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import Images, MeasurementProtocol
from edgedistill.targets import load_target


def session_p50_ms(artifact: CompiledArtifact, images: Images | None, *, max_seconds: float) -> float:
    """p50 in ms of one session of `artifact` on the target `host`, with one thread: at most 1000 runs and about
    `max_seconds` (s), over `images` in turn, or random inputs for None."""
    protocol = MeasurementProtocol(
        target=load_target("host"),
        sessions=1,
        pause_s=0.0,
        max_samples=1000,
        max_seconds=max_seconds,
        operators=False,
        execute=partial(run_pushed, LocalDevice()),
    )
    return measured_latency(runtime_for(artifact.format).profile(artifact, images, protocol)).p50_ms
