"""How sessions become a profile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_artifact, make_environment, make_profile, make_session

from edgedistill.base.errors import TrialFailure
from edgedistill.devices.base import SessionFailure
from edgedistill.devices.session import MeasurementProtocol, SessionJob, SessionReport
from edgedistill.devices.sessions import joined, profile_file, require_permitted, take_session
from edgedistill.documents.measurements import Environment, Fallbacks, OpTiming, Session
from edgedistill.documents.specs import Format, Precision, Target

TARGET = Target(
    name="t", title="T", runtime=Format.ONNX, formats=(Format.ONNX,), precisions=(Precision.FP32,), transport="local"
)
ARTIFACT = make_artifact(Precision.FP16, target="t", sha256="ab")
ANCHOR = make_artifact(sha256="cd", path=Path("folder/anchor.onnx"))
QUIET = make_session([100, 101] * 50)
NOISY = make_session([100, 150, 900] * 50)


class Script:
    """A device that answers from a list; remembers what it was asked."""

    def __init__(self, *answers: Session | tuple[Session, Environment]) -> None:
        pairs = [answer if isinstance(answer, tuple) else (answer, make_environment()) for answer in answers]
        self.answers: Iterator[tuple[Session, Environment]] = iter(pairs)
        self.jobs: list[SessionJob] = []
        self.inputs: list[Any] = []

    def __call__(self, job: SessionJob) -> SessionReport:
        self.jobs.append(job)
        if job.inputs is not None:
            self.inputs.append(np.load(job.inputs))
        answer, where = next(self.answers)
        timings = (OpTiming(name="n", op_type="Conv", median_us=1.0),) if job.operators else ()
        return SessionReport(session=answer, environment=where, op_timings=timings)


LOADER = Path("on_device.py")
LEFT = Fallbacks(by="the GPU", operations=2, elsewhere={"Det": 1})
UNKNOWN = Fallbacks(by="the GPU", unknown="the runtime is too old")


def protocol(script: Script, **changes: Any) -> MeasurementProtocol:
    def never(*_: Any) -> Any:
        raise AssertionError("the agent measures, not this process")

    values: dict[str, Any] = {"seconds": 1.5, "min_runs": 60, "operators": True}
    values |= {"target": TARGET, "execute": script} | changes
    return MeasurementProtocol(sample=never, **values)


def taken(script: Script, **changes: Any) -> Any:
    asked = protocol(script, **changes)
    return take_session(ARTIFACT, asked.job(ARTIFACT), asked)


@pytest.mark.parametrize("session", [QUIET, NOISY])
def test_a_session_stands_as_it_was_taken(session: Session) -> None:
    """However noisy: it is not measured again."""
    profile = taken(Script(session))
    assert profile.sessions == (session,)
    assert (profile.artifact_sha256, profile.target, profile.precision) == ("ab", "t", Precision.FP16)
    assert profile.anchor_sha256 is None


def test_operators_are_timed_where_that_is_asked_for() -> None:
    assert len(taken(Script(QUIET)).op_timings) == 1
    assert taken(Script(QUIET), operators=False).op_timings == ()


def test_a_session_is_asked_what_the_protocol_says() -> None:
    script = Script(make_session([100] * 50, [200] * 50))
    profile = taken(script, anchor=ANCHOR, burst_s=0.02, seconds=2.5, min_runs=300, operators=False)
    assert script.jobs == [
        SessionJob(
            model=ARTIFACT.path.absolute(),
            anchor=ANCHOR.path.absolute(),
            threads=1,
            seconds=2.5,
            min_runs=300,
            burst_s=0.02,
        )
    ]
    assert profile.anchor_sha256 == "cd"


def test_inputs_go_to_the_model_and_not_to_its_anchor() -> None:
    script = Script(make_session([100] * 50, [200] * 50))
    images = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2)
    profile_file(ARTIFACT, LOADER, images, "image", protocol(script, anchor=ANCHOR))
    (job,) = script.jobs
    assert (job.input_name, job.loader) == ("image", LOADER)
    assert np.array_equal(script.inputs[0], images)
    assert job.inputs is not None and not job.inputs.exists(), "the file is gone with the profile"
    script = Script(QUIET)
    profile_file(ARTIFACT, LOADER, None, "image", protocol(script))
    assert script.jobs[0].inputs is None


def test_profiles_taken_one_after_the_other_are_joined() -> None:
    first = make_profile(QUIET, op_timings=(OpTiming(name="n", op_type="Conv", median_us=1.0),))
    joint = joined([first, make_profile(NOISY), make_profile(QUIET)])
    assert joint.sessions == (QUIET, NOISY, QUIET)
    assert joint.op_timings == first.op_timings
    assert joint == first.model_copy(update={"sessions": joint.sessions})


def test_profiles_of_a_device_that_changed_are_not_joined() -> None:
    other = make_profile(QUIET, environment=make_environment(pinned_cpus=(1,), threads=2))
    with pytest.raises(TrialFailure, match=r"threads: 1 became 2; pinned_cpus: \(0,\) became \(1,\)"):
        joined([make_profile(QUIET), other])


@pytest.mark.parametrize("told", [LEFT, UNKNOWN])
def test_fallbacks_that_a_target_does_not_allow_fail_the_file(told: Fallbacks) -> None:
    on_gpu = TARGET.model_copy(update={"accelerator": "GPU"})
    with pytest.raises(SessionFailure, match=f"m.onnx: {told.sentence}") as caught:
        require_permitted(told, "m.onnx", on_gpu)
    assert caught.value.kind == "fallback" and "allow_fallbacks = true" in caught.value.fix
    require_permitted(told, "m.onnx", on_gpu.model_copy(update={"allow_fallbacks": True}))
    require_permitted(told, "m.onnx", TARGET)
    require_permitted(LEFT.model_copy(update={"elsewhere": {}}), "m.onnx", on_gpu)
    require_permitted(None, "m.onnx", on_gpu)


def test_a_session_that_tells_fallbacks_fails_its_file() -> None:
    script = Script(QUIET)

    def told(job: SessionJob) -> SessionReport:
        return script(job).model_copy(update={"fallbacks": LEFT})

    asked = protocol(script, target=TARGET.model_copy(update={"accelerator": "GPU"}), execute=told)
    with pytest.raises(SessionFailure, match="elsewhere: Det 1"):
        take_session(ARTIFACT, asked.job(ARTIFACT, LOADER), asked)
