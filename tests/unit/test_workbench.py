"""At which speed of the processor a build compares its figures."""

from __future__ import annotations

from factories import make_environment

from edgedistill.artifacts import Profile
from edgedistill.runtimes.sessions import as_session
from edgedistill.specs import Precision
from edgedistill.workbench import TEACHER_WAIT_S, ProcessorSpeed


def profile(*references_us: float | None) -> Profile:
    sessions = tuple(
        as_session(
            [100] * 60,
            warmup_runs=1,
            load_ms=1.0,
            peak_memory_bytes=1,
            model_memory_bytes=1,
            references_us=() if reference_us is None else (reference_us, reference_us),
        )
        for reference_us in references_us
    )
    return Profile(
        artifact_sha256="ab",
        target="t",
        precision=Precision.FP32,
        environment=make_environment(),
        sessions=sessions,
        op_timings=(),
    )


def test_the_first_profile_sets_the_speed_and_the_others_are_held_against_it() -> None:
    speed = ProcessorSpeed()
    speed.note(profile(11.0, 5.8, 11.4))
    assert (speed.reference_us, speed.sessions, speed.elsewhere) == (11.0, 3, 1)
    speed.note(profile(5.8))
    speed.note(profile(10.2))
    assert (speed.reference_us, speed.sessions, speed.elsewhere) == (11.0, 5, 2)


def test_only_a_proof_waits_and_only_as_long_as_patience_lasts() -> None:
    speed = ProcessorSpeed(patience_s=60.0)
    assert speed.wait_s(1) == 0
    assert speed.wait_s(3) == TEACHER_WAIT_S, "nothing yet to be compared with: the sessions wait for one another"
    speed.note(profile(11.0))
    assert speed.wait_s(3) == 60.0
    speed.patience_s = 0.0
    assert speed.wait_s(3) == 0.0


def test_a_calibrations_single_sessions_wait_too() -> None:
    speed = ProcessorSpeed(patience_s=20.0, single_wait_s=15.0)
    assert speed.wait_s(1) == 0, "the first one sets the speed"
    speed.note(profile(11.0))
    assert speed.wait_s(1) == 15.0
    speed.patience_s = 4.0
    assert speed.wait_s(1) == 4.0


def test_a_device_that_tells_no_speed_is_never_elsewhere() -> None:
    speed = ProcessorSpeed()
    speed.note(profile(None, None))
    assert (speed.reference_us, speed.sessions, speed.elsewhere) == (None, 2, 0)
