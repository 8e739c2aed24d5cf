"""Flags of a session, and when one is measured again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_artifact, make_environment
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.artifacts import Environment, OpTiming, Session
from edgedistill.errors import TrialFailure
from edgedistill.runtimes.base import MeasurementProtocol, SessionJob, SessionReport
from edgedistill.runtimes.sessions import as_session, at_another_speed, drift, spread, take_profile
from edgedistill.specs import Format, Precision, Target

TARGET = Target(
    name="t", title="T", runtime=Format.ONNX, formats=(Format.ONNX,), precisions=(Precision.FP32,), transport="local"
)
ARTIFACT = make_artifact(Precision.FP16, target="t", sha256="ab")
JOB = SessionJob(model=Path("m.onnx"), threads=1, max_samples=10, max_seconds=1.0)


def environment(power: str = "performance", temperature_c: float | None = None) -> Environment:
    return make_environment(power=power, temperature_c=temperature_c)


def session(samples_ns: list[int], **more: Any) -> Session:
    return as_session(samples_ns, warmup_runs=3, load_ms=1.0, peak_memory_bytes=2, model_memory_bytes=1, **more)


QUIET = session([100, 101] * 50)
NOISY = session([100, 150] * 50)


class Script:
    """A device that answers from a list; remembers what it was asked."""

    def __init__(self, *answers: tuple[Session, Environment]) -> None:
        self.answers: Iterator[tuple[Session, Environment]] = iter(answers)
        self.jobs: list[SessionJob] = []

    def __call__(self, job: SessionJob) -> SessionReport:
        self.jobs.append(job)
        answer, where = next(self.answers)
        timings = (OpTiming(name="n", op_type="Conv", median_us=1.0),) if job.operators else ()
        return SessionReport(session=answer, environment=where, op_timings=timings)


def protocol(script: Script, sessions: int, pause_s: float = 0.0) -> MeasurementProtocol:
    return MeasurementProtocol(
        target=TARGET,
        sessions=sessions,
        pause_s=pause_s,
        max_samples=10,
        max_seconds=1.0,
        operators=True,
        execute=script,
    )


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200), st.integers(2, 1000))
def test_spread_and_drift_do_not_depend_on_the_unit(samples: list[int], factor: int) -> None:
    scaled = [s * factor for s in samples]
    assert spread(scaled) == pytest.approx(spread(samples))
    assert drift(scaled) == pytest.approx(drift(samples))
    assert spread(samples) >= 0


def test_drift_is_last_quarter_over_first() -> None:
    assert drift([100] * 25 + [1] * 50 + [106] * 25) == pytest.approx(0.06)
    assert drift([1, 2, 3]) == 0.0


def test_flags() -> None:
    assert not QUIET.noisy
    assert NOISY.noisy
    assert session([100] * 75 + [106] * 25).noisy
    assert not session([100] * 75 + [104] * 25).noisy
    assert not session([106] * 25 + [100] * 75).noisy, "a device that gets faster does not throttle"


def test_a_long_tail_alone_is_no_noise() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(1000, 5, 1000).astype(int)
    samples[generator.integers(0, 1000, 50)] *= 4
    assert not session(samples.tolist()).noisy


def test_noisy_sessions_are_replaced_and_counted() -> None:
    script = Script((NOISY, environment()), (QUIET, environment()), (QUIET, environment()))
    profile = take_profile(ARTIFACT, JOB, protocol(script, 2))
    assert profile.sessions == (QUIET, QUIET)
    assert profile.remeasured == 1
    assert len(profile.op_timings) == 1
    assert (profile.artifact_sha256, profile.target, profile.precision) == ("ab", "t", Precision.FP16)
    assert [job.operators for job in script.jobs] == [True, False, False]


def test_the_last_repeat_stands_with_its_flag_even_if_an_earlier_one_was_faster() -> None:
    slower = session([200, 400] * 50)
    script = Script((NOISY, environment()), (NOISY, environment()), (slower, environment()))
    profile = take_profile(ARTIFACT, JOB, protocol(script, 1))
    assert profile.sessions == (slower,)
    assert profile.sessions[0].noisy
    assert profile.remeasured == 2


def test_pause_between_any_two_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("edgedistill.runtimes.sessions.time.sleep", pauses.append)
    script = Script((NOISY, environment()), (QUIET, environment()), (QUIET, environment()))
    take_profile(ARTIFACT, JOB, protocol(script, 2, pause_s=1.5))
    assert pauses == [1.5, 1.5]


def test_a_changed_device_ends_the_profile_and_a_warmer_one_does_not() -> None:
    script = Script((QUIET, environment("performance")), (QUIET, environment("powersave")))
    with pytest.raises(TrialFailure, match="power: performance became powersave"):
        take_profile(ARTIFACT, JOB, protocol(script, 2))
    script = Script((QUIET, environment(temperature_c=40.0)), (QUIET, environment(temperature_c=55.0)))
    assert take_profile(ARTIFACT, JOB, protocol(script, 2)).environment.temperature_c == 55.0


def test_a_session_during_which_the_processor_changed_its_speed_is_noisy() -> None:
    steady = [100, 101] * 50
    assert session(steady, references_us=(5.8, 11.2)).noisy
    assert session(steady, references_us=(11.2, 5.8)).noisy, "faster is as bad as slower: it is not one speed"
    assert not session(steady, references_us=(5.8, 6.6)).noisy
    assert session(steady, references_us=(5.0, 6.0)).reference_us == 5.5
    assert session(steady).reference_us is None
    assert session(steady, references_us=[20.0, 20.4, 28.0, 20.2, 20.1]).noisy, "one block among others"
    assert session(steady, references_us=[20.0, 20.4, 28.0, 20.2, 20.1]).reference_us == 20.2
    assert not session(steady, references_us=[20.0] * 19 + [28.0]).noisy, "one look of many"
    assert session(steady, references_us=[20.0] * 17 + [28.0] * 3).noisy


def test_later_sessions_wait_for_the_first_ones_speed() -> None:
    first, second = session([100] * 50, references_us=(6.0, 6.0)), session([150] * 50, references_us=(11.0, 11.0))
    script = Script((first, environment()), (second, environment()))
    take_profile(ARTIFACT, JOB, replace(protocol(script, 2), wait_s=4.0))
    assert [(job.reference_us, job.wait_s) for job in script.jobs] == [(None, 4.0), (6.0, 4.0)]


def test_the_speed_asked_for_is_every_sessions_and_what_one_waits_is_not_left_for_the_others() -> None:
    noisy = session([100, 150] * 50, references_us=(6.0, 6.0), waited_s=3.0)
    quiet = session([100] * 50, references_us=(6.0, 6.0))
    script = Script((noisy, environment()), (quiet, environment()), (quiet, environment()))
    take_profile(ARTIFACT, JOB, replace(protocol(script, 2), reference_us=9.0, wait_s=4.0))
    assert [(job.reference_us, job.wait_s) for job in script.jobs] == [(9.0, 4.0), (9.0, 1.0), (9.0, 1.0)]


def test_speeds_are_compared_only_where_both_are_known() -> None:
    assert at_another_speed(12.1, 10.0)
    assert at_another_speed(7.9, 10.0)
    assert not at_another_speed(11.9, 10.0)
    assert not at_another_speed(None, 10.0)
    assert not at_another_speed(20.0, None)
