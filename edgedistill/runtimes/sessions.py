"""How several sessions of one file become its profile. Every session stands as it was taken."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedistill.artifacts import CompiledArtifact, Environment, OpTiming, Profile, Session
from edgedistill.errors import TrialFailure
from edgedistill.runtimes.base import Images, MeasurementProtocol, SessionJob


def profile_file(
    artifact: CompiledArtifact, inputs: Images | None, input_name: str, protocol: MeasurementProtocol
) -> Profile:
    """Sessions of the device's agent, which loads the artifact's own file. `inputs` go to the input `input_name` in the
    file's own layout, one image at a time; None: random ones."""
    job = protocol.job(artifact)
    if inputs is None:
        return take_profile(artifact, job, protocol)
    with tempfile.TemporaryDirectory(prefix="edgedistill-inputs-") as folder:
        values = Path(folder) / "inputs.npy"
        np.save(values, inputs, allow_pickle=False)
        asked = job.model_copy(update={"inputs": values, "input_name": input_name})
        return take_profile(artifact, asked, protocol)


def take_profile(artifact: CompiledArtifact, job: SessionJob, protocol: MeasurementProtocol) -> Profile:
    """The protocol's sessions with its pause between any two, as the artifact's profile: with their environment and the
    operators' times (of the first session, if asked for). Raises TrialFailure if the device changed between sessions: such
    samples do not belong to one profile."""
    sessions: list[Session] = []
    environments: list[Environment] = []
    operators: tuple[OpTiming, ...] = ()
    for number in range(protocol.sessions):
        if number:
            time.sleep(protocol.pause_s)
        asked = {"operators": protocol.operators and not number}
        report = protocol.execute(job.model_copy(update=asked))
        sessions.append(report.session)
        environments.append(report.environment)
        operators = operators or report.op_timings
    return Profile(
        artifact_sha256=artifact.sha256,
        anchor_sha256=protocol.anchor.sha256 if protocol.anchor else None,
        target=artifact.target,
        precision=artifact.scheme.precision,
        environment=one_environment(environments),
        sessions=tuple(sessions),
        op_timings=operators,
    )


def joined(profiles: Sequence[Profile]) -> Profile:
    """Profiles of one file, taken one after the other, as one. Raises TrialFailure if the device changed meanwhile."""
    return profiles[0].model_copy(
        update={
            "sessions": tuple(session for profile in profiles for session in profile.sessions),
            "environment": one_environment([profile.environment for profile in profiles]),
        }
    )


def one_environment(environments: Sequence[Environment]) -> Environment:
    """The environment that all share. Raises TrialFailure where they do not."""
    first = environments[0].model_dump()
    for other in environments[1:]:
        now = other.model_dump()
        changed = [f"{name}: {value} became {now[name]}" for name, value in first.items() if now[name] != value]
        if changed:
            raise TrialFailure(
                f"the device changed while it was being measured ({'; '.join(changed)})",
                fix="measure again with power mode and CPUs left alone",
            )
    return environments[0]
