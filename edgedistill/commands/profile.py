"""`edgedistill profile`: the latency of any ONNX, LiteRT or ExecuTorch file on a target's device."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.base.progress import Listener, Note, StageAdvanced, silent, telling
from edgedistill.base.units import format_percent, format_seconds
from edgedistill.devices.agent.agent_sampling import HARD_LIMIT_FACTOR
from edgedistill.devices.attach import attach
from edgedistill.devices.base import run_pushed, sample
from edgedistill.devices.session import MeasurementProtocol
from edgedistill.devices.sessions import joined
from edgedistill.devices.stats import (
    anchor_latency,
    least_runs,
    mean_with_interval,
    measured_latency,
    percentile_ms,
    ratio,
    resolves,
    spread,
)
from edgedistill.documents.build_file import ProfileConfig
from edgedistill.documents.measurements import Profile, Session
from edgedistill.documents.profiled import Comparison, Gate, GateLimit, ProfileResult
from edgedistill.documents.specs import Format, Percentile, Target
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for, measured_by_agent
from edgedistill.formats.foreign import format_of, open_file, reading


def profile(
    path: Path | str,
    *,
    target: str | Path = "host",
    device: str = "",
    sessions: int = 3,
    compare: Path | str | None = None,
    gate: str | None = None,
    listener: Listener = silent,
) -> ProfileResult:
    """Measure any ONNX, LiteRT or ExecuTorch file on `target`, `sessions` times, on the device that `device` names in the
    user's file of devices or by its address, unless the target has one; returns latency, memory and operators. With
    `compare`, another file of the same format, the two run in turn and the result says which is faster. `gate`
    ("5ms@p95", or with `compare` "105%@p50", a share of the other's) is a limit that each session has to keep; that it is
    not kept is a result.

    Raises InputError for a file that is none of these or a gate that is none, UnsupportedError for a target that does not
    measure its format, UnreachableError where the target's device does not answer, TrialFailure where the file fails
    there."""
    limit = None if gate is None else GateLimit.parse(gate)
    if limit is not None and limit.share and compare is None:
        raise InputError(f"{gate!r} is a share of no file", fix="name the other with --compare, or give milliseconds")
    other = None if compare is None else Path(compare)
    result, taken = profile_file(Path(path), load_target(str(target)), listener, sessions, other, device)
    return result if limit is None else result.model_copy(update={"gate": _gated(limit, taken)})


def profile_file(
    path: Path,
    target: Target,
    listener: Listener,
    sessions: int = 3,
    compare: Path | None = None,
    named: str = "",
) -> tuple[ProfileResult, Profile]:
    """So many sessions of `path` with random inputs of its own signature, and its operators by time where its runtime tells
    them; with `compare`, another file of the same format, the two in turn. `named` is the user's device, empty for the
    target's own. The result, and the sessions.

    Raises InputError for a file that is not a model in ONNX, LiteRT or ExecuTorch, for two of different formats or for no
    sessions, UnsupportedError for a target that does not measure its format, UnreachableError where its device does not
    answer, MissingDependencyError where the format's runtime is absent, TrialFailure where the file cannot be loaded or run
    or the device changes meanwhile.
    """
    if sessions < 1:
        raise InputError(f"{sessions} sessions measure nothing", fix="take 1 or more")
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
    if compare is not None and format_of(compare) is not format:
        raise InputError(
            f"{compare.name} is no {format}: it cannot run in turn with {path.name}", fix="export it as such"
        )
    artifact = reading(path, open_file, path, target).artifact
    anchor = None if compare is None else reading(compare, open_file, compare, target).artifact
    device = attach(target, listener, named)
    config = ProfileConfig()
    protocol = MeasurementProtocol(
        target=target,
        seconds=config.session / 1000,
        min_runs=least_runs(Percentile.P95),
        operators=True,
        execute=partial(run_pushed, device),
        sample=sample,
        anchor=anchor,
        burst_s=config.burst / 1000,
    )
    listener(Note(_sentence(protocol, sessions)))
    taken: list[Profile] = []
    with closing(device), telling(listener, "profile", path.name, sessions):
        for number in range(sessions):
            if number:
                time.sleep(config.pause / 1000)
            taken.append(format_for(format).profile(artifact, None, replace(protocol, operators=not number)))
            listener(StageAdvanced("profile", number + 1, sessions))
    profile = joined(taken)
    notes = ["inputs are random numbers of the file's own types and shapes"]
    if not profile.op_timings:
        notes.append(f"operators are not timed: {profile.environment.runtime} does not tell their times here")
    differ = spread([percentile_ms(s.samples_ns, Percentile.P95.fraction) for s in profile.sessions])
    if sessions > 1:
        notes.append(f"p95 differs by {format_percent(differ)} from session to session (standard deviation of the log)")
    first = [session.first_run_ms for session in profile.sessions if session.first_run_ms is not None]
    result = ProfileResult(
        path=str(path),
        format=format,
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        latency=measured_latency(profile, anchor_latency(profile.sessions) if anchor else None),
        comparison=None if compare is None else _compared(str(compare), profile),
        peak_memory_bytes=max(session.peak_memory_bytes for session in profile.sessions),
        load_ms=statistics.median_high(session.load_ms for session in profile.sessions),
        first_run_ms=statistics.median_high(first) if first else None,
        op_timings=tuple(sorted(profile.op_timings, key=lambda timing: -timing.median_us)),
        environment=profile.environment,
        notes=tuple(notes),
    )
    return result, profile


def _compared(other: str, profile: Profile) -> Comparison:
    p50, interval = mean_with_interval([ratio(session, Percentile.P50) for session in profile.sessions])
    told = all(resolves(session, Percentile.P95) for session in profile.sessions)
    p95 = [ratio(session, Percentile.P95) for session in profile.sessions] if told else []
    return Comparison(
        other=other, p50_ratio=p50, interval=interval, p95_ratio=mean_with_interval(p95)[0] if told else None
    )


def _gated(limit: GateLimit, profile: Profile) -> Gate:
    def value(session: Session) -> float:
        if limit.share:
            return ratio(session, limit.percentile)
        return percentile_ms(session.samples_ns, limit.percentile.fraction)

    values = tuple(map(value, profile.sessions))
    return Gate(limit=limit, values=values, over=sum(one > limit.most for one in values))


def _sentence(protocol: MeasurementProtocol, sessions: int) -> str:
    """What takes the time of so many sessions."""
    one, longest = (format_seconds(factor * protocol.seconds) for factor in (1, HARD_LIMIT_FACTOR))
    beside = "" if protocol.anchor is None else f" in turn with {protocol.anchor.path.name}"
    return (
        f"{sessions} session{'s' * (sessions != 1)} of {one}{beside}, up to {longest} for a slow file; the first also times "
        "the operators, where the runtime can"
    )


def _measured_on(target: Target) -> tuple[Format, ...]:
    """What the agent measures on `target`: everything on this machine, elsewhere what the target takes. It runs on the CPU:
    nothing where the budget is held against another processor."""
    measured = measured_by_agent()
    if target.runtime not in measured:
        return ()
    if target.transport == "local":
        return measured
    return tuple(format for format in target.formats if format in measured)
