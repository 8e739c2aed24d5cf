"""Two model files on this machine in turn, as the benchmarks compare files."""

from __future__ import annotations

from functools import partial

from edgedistill.base.arrays import Images
from edgedistill.devices.base import run_pushed, sample
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.session import MeasurementProtocol
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.measurements import Profile
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for


def one_session(
    artifact: CompiledArtifact, images: Images | None, anchor: CompiledArtifact | None, seconds: float
) -> Profile:
    """One session of `artifact` on the target `host`, with one thread, over `images` in turn, or random inputs for None;
    with an `anchor`, the two in turn."""
    protocol = MeasurementProtocol(
        target=load_target("host"),
        seconds=seconds,
        min_runs=1,
        operators=False,
        execute=partial(run_pushed, LocalDevice()),
        sample=sample,
        anchor=anchor,
    )
    return format_for(artifact.format).profile(artifact, images, protocol)
