"""How several sessions of one file become its profile. Every session stands as it was taken."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedistill.base.arrays import Images
from edgedistill.base.errors import TrialFailure
from edgedistill.devices.base import SessionFailure
from edgedistill.devices.session import MeasurementProtocol, SessionJob
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.measurements import Environment, Fallbacks, Profile
from edgedistill.documents.specs import Target


def profile_file(
    artifact: CompiledArtifact, loader: Path, inputs: Images | None, input_name: str, protocol: MeasurementProtocol
) -> Profile:
    """A session of the device's agent, which loads the artifact's own file with `loader`. `inputs` go to the
    input `input_name` in the file's own layout, one image at a time; None: random ones."""
    job = protocol.job(artifact, loader)
    if inputs is None:
        return take_session(artifact, job, protocol)
    with tempfile.TemporaryDirectory(prefix="edgedistill-inputs-") as folder:
        values = Path(folder) / "inputs.npy"
        np.save(values, inputs, allow_pickle=False)
        asked = job.model_copy(update={"inputs": values, "input_name": input_name})
        return take_session(artifact, asked, protocol)


def take_session(artifact: CompiledArtifact, job: SessionJob, protocol: MeasurementProtocol) -> Profile:
    """One session as the artifact's profile, with its environment and, if asked for, the operators' times. Raises
    SessionFailure for fallbacks that the target does not allow."""
    report = protocol.execute(job)
    require_permitted(report.fallbacks, artifact.path.name, protocol.target)
    return Profile(
        artifact_sha256=artifact.sha256,
        anchor_sha256=protocol.anchor.sha256 if protocol.anchor else None,
        target=artifact.target,
        precision=artifact.scheme.precision,
        environment=report.environment,
        sessions=(report.session,),
        op_timings=report.op_timings,
        fallbacks=report.fallbacks,
    )


def require_permitted(fallbacks: Fallbacks | None, name: str, target: Target) -> None:
    """Raises SessionFailure where a session of the file `name` tells that the target's accelerator leaves operations to the
    CPU, or may do so, and the target does not allow it."""
    if fallbacks is None or not target.accelerator or target.allow_fallbacks or fallbacks.elsewhere == {}:
        return
    fix = "replace these operations in the model" if fallbacks.elsewhere else "bring a newer runtime, which tells it"
    raise SessionFailure(
        "fallback",
        f"{name}: {fallbacks.sentence}",
        fix=f"{fix}, or set allow_fallbacks = true in [export], or in the target",
    )


def joined(profiles: Sequence[Profile]) -> Profile:
    """Sessions of one file, taken one after the other, as one profile, with the operators' times of the first. Raises
    TrialFailure if the device changed between them: such samples do not belong to one profile."""
    first = profiles[0].environment
    for other in profiles[1:]:
        if changed := changes(first, other.environment):
            raise TrialFailure(
                f"the device changed while it was being measured ({'; '.join(changed)})",
                fix="measure again with power mode and CPUs left alone",
            )
    sessions = tuple(session for profile in profiles for session in profile.sessions)
    return profiles[0].model_copy(update={"sessions": sessions})


def changes(before: Environment, now: Environment) -> tuple[str, ...]:
    """In what two environments differ, each as `power: schedutil became performance`."""
    old, new = before.model_dump(), now.model_dump()
    return tuple(f"{name}: {value} became {new[name]}" for name, value in old.items() if new[name] != value)
