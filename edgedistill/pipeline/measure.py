"""Latency on the target's device: files compared in pairs, and sessions that prove. Each session is a stage of the
store.

A search compares every file with one fixed network, the anchor, in turn in one process: the ratio holds where
milliseconds move. A proof takes sessions of its own (`sessions`), of the file alone or in turn with the teacher's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from edgedistill.base.errors import TrialFailure, UnsupportedError
from edgedistill.base.progress import Note, StageAdvanced, telling
from edgedistill.base.store import stage_key, write_atomic
from edgedistill.base.units import format_ms, format_percent
from edgedistill.devices.base import run_pushed, sample
from edgedistill.devices.proof import CONFIDENCE, ProofPlan
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.devices.sessions import joined
from edgedistill.devices.stats import (
    anchor_latency,
    elapsed_s,
    least_runs,
    measured_latency,
    percentile_ms,
    ratio,
    resolves,
    spread,
)
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.measurements import Latency, Profile, Proof, Session, UnknownLatency
from edgedistill.documents.specs import Budget, Contract, Percentile, Precision, QuantScheme, StudentSpec
from edgedistill.formats import format_for, tools_of
from edgedistill.networks.build import build_student
from edgedistill.networks.counting import structure_of
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Bench, Source, random_source
from edgedistill.pipeline.make import compiled, portable
from edgedistill.pipeline.meter import Scale

ANCHOR_SPEC = StudentSpec(family="resnet", width=0.25, depth=0.5, resolution=32)
ANCHOR_CONTRACT = Contract(
    resolution=ANCHOR_SPEC.resolution,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    labels=tuple(f"class {number}" for number in range(10)),
)
SCALE_SESSIONS = 6
"""How many sessions tell the anchor's own latency and by how much sessions differ."""


def anchor_source() -> Source:
    """The network that files are compared with: the same weights everywhere, made from a seed."""
    build = partial(build_student, ANCHOR_SPEC, ANCHOR_CONTRACT)
    return random_source("anchor", f"anchor {ANCHOR_SPEC.label}", ANCHOR_CONTRACT, build)


@cache
def anchor_name() -> str:
    """What tells this anchor from another one, whatever exported its file: `resnet w0.25 d0.5 @32, 1,234,567
    multiply-adds`."""
    structure = structure_of(anchor_source().load(), ANCHOR_SPEC.resolution)
    return f"{ANCHOR_SPEC.label}, {structure.multiply_adds:,} multiply-adds"


def anchor_file(bench: Bench) -> CompiledArtifact:
    """The anchor's fp32 file in the target's own runtime. Raises UnsupportedError or TrialFailure where it cannot be
    made."""
    fp32 = QuantScheme(precision=Precision.FP32)
    return compiled(bench, portable(bench, anchor_source(), fp32, bench.target.runtime))


@dataclass(frozen=True)
class Manner:
    """How a session is taken: its length, what runs in turn with the file and how long a turn is. `number` tells
    sessions of one file apart."""

    seconds: float
    anchor: CompiledArtifact | None = None
    burst_s: float = 0.0
    number: int = 0


def profiled(bench: Bench, artifact: CompiledArtifact, source: Source, manner: Manner) -> Profile | None:
    """One session of the artifact on the target's device; None where it cannot be measured (`bench.meter.not_measurable`
    says why)."""
    device = bench.meter.device
    if device is None or bench.meter.not_measurable:
        return None

    def make(folder: Path) -> None:
        protocol = MeasurementProtocol(
            target=bench.target,
            seconds=manner.seconds,
            min_runs=least_runs(bench.meter.percentile),
            operators=manner.number == 0,
            execute=partial(run_pushed, device),
            sample=sample,
            anchor=manner.anchor,
            burst_s=manner.burst_s,
        )
        if manner.number:
            time.sleep(bench.meter.settings.pause / 1000)
        inputs = bench.images("validation", source.contract)[:64]
        profile = format_for(artifact.format).profile(artifact, inputs, protocol)
        write_atomic(folder / "profile.json", profile.model_dump_json())

    session = f", session {manner.number + 1}" if manner.number else ""
    subject = f"{source.label} {artifact.format} {artifact.scheme.label}{session}"
    try:
        folder = bench.store.stage("profile", profile_key(bench, artifact, manner), make, subject=subject)
    except NotRunnableError as error:
        bench.meter.not_measurable = error.message
        return None
    return Profile.model_validate_json((folder / "profile.json").read_text())


def profile_key(bench: Bench, artifact: CompiledArtifact, manner: Manner) -> str:
    """Key of a session: the files, the target, the device as it is now, how samples are taken, and on which
    occasion."""
    return stage_key(
        {
            "artifact": artifact.sha256,
            "anchor": manner.anchor.sha256 if manner.anchor else None,
            "target": [bench.target.name, bench.target.threads],
            "device": bench.meter.facts(),
            "manner": [manner.seconds, manner.burst_s, manner.number],
            "pause": bench.meter.settings.pause if manner.number else 0,
            "min_runs": least_runs(bench.meter.percentile),
            "occasion": bench.meter.occasion,
        },
        code=code.sampling(artifact.format),
        tools=tools_of(artifact.format),
    )


def comparison(bench: Bench) -> Manner:
    """How a candidate's file is compared with the anchor."""
    config = bench.meter.settings
    anchor = bench.meter.scale.anchor if bench.meter.scale else None
    return Manner(config.compare / 1000, anchor, config.burst / 1000)


def compared(bench: Bench, artifact: CompiledArtifact, source: Source) -> Profile | None:
    """A session of the artifact in turn with the anchor; None where it cannot be measured."""
    return profiled(bench, artifact, source, comparison(bench))


def relative_p50(bench: Bench, artifact: CompiledArtifact, source: Source, other: CompiledArtifact) -> float | None:
    """The artifact's p50 as a ratio to that of `other`, in turn with it; None where it cannot be measured."""
    profile = profiled(bench, artifact, source, replace(comparison(bench), anchor=other))
    return ratio(profile.sessions[0], Percentile.P50) if profile else None


def sessions(
    bench: Bench, artifact: CompiledArtifact, source: Source, anchor: CompiledArtifact | None
) -> Iterator[Profile]:
    """Sessions of a proof's length without end, one after the other as they are asked for, with the build file's pause
    between. Ends at once where the device cannot be measured."""
    length_s, number = bench.meter.settings.session / 1000, 0
    burst_s = bench.meter.settings.burst / 1000 if anchor else 0.0
    while profile := profiled(bench, artifact, source, Manner(length_s, anchor, burst_s, number)):
        yield profile
        number += 1


def first_sessions(
    bench: Bench, artifact: CompiledArtifact, source: Source, anchor: CompiledArtifact | None, count: int
) -> Profile | None:
    """The first `count` of `sessions` as one profile; None where they cannot be taken."""
    # `range` comes first: after the sessions it would end the loop only when one more had been taken.
    taken = [profile for _, profile in zip(range(count), sessions(bench, artifact, source, anchor))]
    return joined(taken) if len(taken) == count else None


def prove(bench: Bench, artifact: CompiledArtifact, source: Source, budget: Budget) -> Proof:
    """Sessions of the very file, alone, or in turn with the teacher's where the budget is a share of it, until they
    prove the budget or no further one could. Raises TrialFailure where they cannot be taken."""
    config, share = bench.meter.settings, budget.share_of_teacher
    plan = ProofPlan.at(config.proof)
    anchor, limit = (None, budget.latency_ms) if share is None else (bench.meter.teacher_file, share)
    subject, most = f"{source.label} {artifact.scheme.label}", plan.looks[-1].sessions
    listener = bench.store.listener
    taken: list[Session] = []
    values: list[float] = []
    with telling(listener, "prove", subject, most):
        for profile in sessions(bench, artifact, source, anchor):
            (session,) = profile.sessions
            taken.append(session)
            alone_ms = percentile_ms(session.samples_ns, budget.percentile.fraction)
            values.append(alone_ms if share is None else ratio(session, budget.percentile))
            judgement = plan.judge(values, limit)
            listener(StageAdvanced("prove", len(values), most, f"{judgement.over} over the budget"))
            if judgement.ended:
                break
        else:
            raise TrialFailure(bench.meter.not_measurable)
    start, end = taken[0].start, taken[-1].end
    return Proof(
        artifact_sha256=artifact.sha256,
        anchor_sha256=anchor.sha256 if anchor else None,
        target=bench.target.name,
        percentile=budget.percentile,
        share=share is not None,
        limit=limit,
        claimed=plan.claimed,
        confidence=CONFIDENCE,
        alpha=judgement.look.alpha,
        values=tuple(values),
        over=judgement.over,
        over_allowed=judgement.look.over_allowed,
        bound=judgement.bound,
        session_s=config.session / 1000,
        burst_s=0.0 if share is None else config.burst / 1000,
        by_median=share is not None and not all(resolves(session, budget.percentile) for session in taken),
        period_s=elapsed_s(start, end),
        began_at=start.at if start else "",
        retaken=sum(session.retaken for session in taken),
        start=start,
        end=end,
        met=judgement.met,
    )


def scale_alone(bench: Bench) -> None:
    """Take the scale of all comparisons from sessions of the anchor by itself."""
    if (anchor := measurable_anchor(bench)) is None:
        return
    if profile := first_sessions(bench, anchor, anchor_source(), None, SCALE_SESSIONS):
        fraction = bench.meter.percentile.fraction
        set_scale(bench, anchor, profile, [percentile_ms(s.samples_ns, fraction) for s in profile.sessions])


def scale_beside(bench: Bench, artifact: CompiledArtifact, source: Source) -> Profile | None:
    """Take the scale from sessions of the teacher's file in turn with the anchor, which are its profile too; None where
    they cannot be taken."""
    if (anchor := measurable_anchor(bench)) is None:
        return None
    profile = first_sessions(bench, artifact, source, anchor, SCALE_SESSIONS)
    if profile:
        set_scale(bench, anchor, profile, [ratio(s, bench.meter.percentile) for s in profile.sessions])
    return profile


def set_scale(bench: Bench, anchor: CompiledArtifact, profile: Profile, values: Sequence[float]) -> None:
    """The anchor's own latency is that in the sessions of `profile`, alone or in turn with another file; `values` are
    what differs from session to session in a proof."""
    start, latency = profile.sessions[0].start, anchor_latency(profile.sessions)
    bench.meter.scale = Scale(anchor, latency, spread(values), start.at if start else "")
    bench.store.listener(
        Note(f"anchor {format_ms(latency.p95)} at p95; sessions differ by {format_percent(bench.meter.scale.spread)}")
    )


def measurable_anchor(bench: Bench) -> CompiledArtifact | None:
    """The anchor's file; None where nothing can be measured, or the anchor cannot be made: `bench.meter.not_measurable` says
    why."""
    if not bench.meter.measurable:
        return None
    try:
        return anchor_file(bench)
    except (TrialFailure, UnsupportedError) as error:
        bench.meter.not_measurable = f"the anchor network cannot be made in {bench.target.runtime}: {error.message}"
        return None


def latency_of(bench: Bench, profile: Profile | None) -> Latency:
    """A profile as a latency; without one, unknown with the reason."""
    if profile is None:
        return UnknownLatency(reason=bench.meter.not_measurable, device=bench.target.name)
    scale = bench.meter.scale
    anchor_ms = scale.anchor_ms if scale and profile.anchor_sha256 == scale.anchor.sha256 else None
    return measured_latency(profile, anchor_ms)
