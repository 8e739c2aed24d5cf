"""What raw samples say about their own quality, and how several sessions are taken.

A session is flagged as noisy when its interquartile range exceeds 10% of its median (the bound at which
torch.utils.benchmark warns as well: beyond it a percentile says as much about the machine as about the model), when its
last quarter's median exceeds its first quarter's by more than 5% (the device is throttling), or when the processor's own
speed was off by more than 20% at more than a tenth of the looks at it. The interquartile range is used because a few
preemptions leave it alone: they belong to the latency's tail, which the percentiles report.

Many processors run at more than one speed: clocks that rise and fall, a neighbour on the other thread of a core. The same
model then has two latencies, half as long again in one as in the other, and a budget taken at one of them says nothing
about a file measured at the other. So the sessions of one profile are taken at one speed, which they wait for within limits,
and a profile says which it was. Speed is read off arithmetic that has nothing to do with the model: choosing sessions by
it, unlike choosing them by their outcome, favours no model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedistill.artifacts import CompiledArtifact, Environment, OpTiming, Profile, Session
from edgedistill.errors import TrialFailure
from edgedistill.runtimes.base import Images, MeasurementProtocol, SessionJob

MAX_SPREAD = 0.10
MAX_DRIFT = 0.05
MAX_SPEED_CHANGE = 0.20
MAX_SHARE_MOVED = 0.10
MAX_REPEATS = 2


def spread(samples_ns: Sequence[int]) -> float:
    """Interquartile range over the median. Needs at least one sample."""
    low, median, high = np.quantile(np.asarray(samples_ns), (0.25, 0.5, 0.75))
    return float((high - low) / median)


def drift(samples_ns: Sequence[int]) -> float:
    """Last quarter's median over the first quarter's, minus one: 0.06 is 6% slower at the end. 0 below 4 samples."""
    quarter = len(samples_ns) // 4
    if quarter == 0:
        return 0.0
    return float(np.median(samples_ns[-quarter:]) / np.median(samples_ns[:quarter]) - 1)


def as_session(
    samples_ns: Sequence[int],
    *,
    warmup_runs: int,
    load_ms: float,
    peak_memory_bytes: int,
    model_memory_bytes: int,
    references_us: Sequence[float] = (),
    set_aside: int = 0,
    waited_s: float = 0.0,
) -> Session:
    """A Session with its drift and noise flag worked out from the samples and from the processor's speed around them
    (`references_us`, empty where it was not taken)."""
    moved = drift(samples_ns)
    reference_us = float(np.median(references_us)) if references_us else None
    elsewhere = sum(at_another_speed(speed_us, reference_us) for speed_us in references_us)
    return Session(
        samples_ns=tuple(samples_ns),
        warmup_runs=warmup_runs,
        load_ms=load_ms,
        peak_memory_bytes=peak_memory_bytes,
        model_memory_bytes=model_memory_bytes,
        drift=moved,
        noisy=moved > MAX_DRIFT or spread(samples_ns) > MAX_SPREAD or elsewhere > MAX_SHARE_MOVED * len(references_us),
        reference_us=reference_us,
        set_aside=set_aside,
        waited_s=waited_s,
    )


def at_another_speed(reference_us: float | None, wanted_us: float | None) -> bool:
    """Whether the processor's speed differed from the one wanted by more than a session tolerates; False where either is
    not known."""
    return reference_us is not None and wanted_us is not None and abs(reference_us / wanted_us - 1) > MAX_SPEED_CHANGE


def profile_file(
    artifact: CompiledArtifact, inputs: Images | None, input_name: str, protocol: MeasurementProtocol
) -> Profile:
    """Sessions of the device's agent, which loads the artifact's own file. `inputs` go to the input `input_name` in the
    file's own layout, one image at a time; None: random ones. See take_profile for pauses and repeats."""
    with tempfile.TemporaryDirectory(prefix="edgedistill-inputs-") as folder:
        values = None if inputs is None else Path(folder) / "inputs.npy"
        if values is not None and inputs is not None:
            np.save(values, inputs, allow_pickle=False)
        job = SessionJob(
            model=artifact.path.absolute(),
            format=artifact.format,
            inputs=values,
            input_name="" if values is None else input_name,
            input_shapes=dict(protocol.input_shapes),
            threads=protocol.target.threads,
            max_samples=protocol.max_samples,
            max_seconds=protocol.max_seconds,
            min_samples=protocol.min_samples,
        )
        return take_profile(artifact, job, protocol)


def take_profile(artifact: CompiledArtifact, job: SessionJob, protocol: MeasurementProtocol) -> Profile:
    """The protocol's sessions with its pause between any two, as the artifact's profile: with their environment, the
    operators' times (of the first session, if asked for) and how many sessions were measured again.

    Every session is to run at one speed of the processor: the protocol's, else that of the first one. A noisy session is
    thrown away and measured again, at most twice; the last one stands as it is, with its flag. It is never the fastest
    or quietest of them: choosing by the outcome would make every percentile look better than it is. Raises TrialFailure
    if the device changed between sessions (anything but its temperature): such samples do not belong to one profile. The
    environment returned holds the highest temperature seen.
    """
    sessions: list[Session] = []
    environments: list[Environment] = []
    operators: tuple[OpTiming, ...] = ()
    repeats = 0
    reference_us = protocol.reference_us
    wait_s = protocol.wait_s
    for _ in range(protocol.sessions):
        for attempt in range(1 + MAX_REPEATS):
            if environments:
                time.sleep(protocol.pause_s)
            asked = {
                "operators": protocol.operators and not environments,
                "reference_us": reference_us,
                "wait_s": wait_s,
            }
            report = protocol.execute(job.model_copy(update=asked))
            wait_s = max(0.0, wait_s - report.session.waited_s)
            environments.append(report.environment)
            operators = operators or report.op_timings
            if not report.session.noisy or attempt == MAX_REPEATS:
                break
            repeats += 1
        sessions.append(report.session)
        reference_us = reference_us or report.session.reference_us
    return Profile(
        artifact_sha256=artifact.sha256,
        target=artifact.target,
        precision=artifact.scheme.precision,
        environment=_one_environment(environments),
        sessions=tuple(sessions),
        op_timings=operators,
        remeasured=repeats,
    )


def _one_environment(environments: Sequence[Environment]) -> Environment:
    first = environments[0].model_dump(exclude={"temperature_c"})
    for other in environments[1:]:
        now = other.model_dump(exclude={"temperature_c"})
        changed = [f"{name}: {value} became {now[name]}" for name, value in first.items() if now[name] != value]
        if changed:
            raise TrialFailure(
                f"the device changed while it was being measured ({'; '.join(changed)})",
                fix="measure again with power mode and CPUs left alone",
            )
    hottest = max((e.temperature_c for e in environments if e.temperature_c is not None), default=None)
    return environments[0].model_copy(update={"temperature_c": hottest})
