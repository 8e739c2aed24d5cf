"""What a search found, in the words and figures of build.json and search.json."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgedistill import __version__
from edgedistill.artifacts import MeasuredLatency, Profile, Trial, Verified
from edgedistill.devices.stats import proof
from edgedistill.results import (
    AccuracyLimit,
    Constraint,
    Found,
    FrontierPoint,
    LatencyLimit,
    MemoryLimit,
    SizeLimit,
    StudentSummary,
)
from edgedistill.selection.contender import Winner
from edgedistill.selection.goal import misses_beside_latency, validation_accuracy
from edgedistill.selection.pareto import frontier
from edgedistill.selection.search import Outcome
from edgedistill.specs import Budget, Goal
from edgedistill.store import tool_version
from edgedistill.tools import BUILD_TOOLS
from edgedistill.units import format_ms, format_percent
from edgedistill.workbench import Workbench


@dataclass(frozen=True)
class Finding:
    """What a search came to on one of its targets, `target`: the goals and outcomes of all, by target, and the workbench of
    this one. `began` is by time.monotonic."""

    bench: Workbench
    target: str
    goals: Mapping[str, Goal]
    outcomes: Mapping[str, Outcome]
    build_key: str
    began: float

    @property
    def goal(self) -> Goal:
        return self.goals[self.target]

    @property
    def outcome(self) -> Outcome:
        return self.outcomes[self.target]

    @property
    def together(self) -> tuple[str, ...]:
        """The targets that one student is to serve; empty for a search of one."""
        return tuple(self.goals) if len(self.goals) > 1 else ()


def describe(finding: Finding) -> Found:
    """A search's outcome on one target, as it is written down."""
    bench, goal, outcome = finding.bench, finding.goal, finding.outcome
    winner, budget = outcome.winner, goal.budget
    measured = _measured(outcome.trials, budget)
    keeping = _measured(_within_other_limits(outcome.trials, goal), budget)
    status: Literal["met", "not_met", "unmeasured"]
    status = "unmeasured" if bench.not_measurable else "met" if winner and winner.proof else "not_met"
    fastest_ms = min((p.latency_ms for p in measured), default=None)
    fastest_keeping_ms = min((p.latency_ms for p in keeping), default=None)
    # Where one student is to serve several targets, no budget of one of them alone would do.
    offered = status == "not_met" and not finding.together
    would_do_ms = _budget_that_would_do(bench, outcome, goal) if offered else None
    return Found(
        edgedistill_version=__version__,
        build_key=finding.build_key,
        status=status,
        verdict=_verdict(finding, fastest_ms, fastest_keeping_ms, would_do_ms),
        target=finding.target,
        objective=goal.objective,
        constraints=_constraints(finding),
        student=_student_summary(winner),
        proof=winner.proof if winner else None,
        rungs=bench.config.search.rungs,
        trials=tuple(_portable_trial(trial, bench) for trial in outcome.trials),
        frontier=frontier(measured, latency_ms=lambda p: p.latency_ms, accuracy=lambda p: p.accuracy_validation),
        predicted=outcome.predicted,
        stopped=outcome.stopped,
        fastest_ms=fastest_ms,
        budget_that_would_do_ms=would_do_ms,
        notes=_notes(finding),
        environment=environment(bench),
        seconds=time.monotonic() - finding.began,
    )


def _constraints(finding: Finding) -> tuple[Constraint, ...]:
    """What was asked for, this target's own first, and what the winner's files came to: of size and accuracy the file for
    this target, of latency and memory those for every target that it is to serve."""
    goal, winner = finding.goal, finding.outcome.winner
    scheme = winner.scheme if winner else None
    names = (finding.target, *(name for name in finding.goals if name != finding.target))
    limits: list[Constraint] = [_latency_limit(name, finding) for name in names]
    if goal.max_bytes is not None:
        size = scheme.artifact.bytes if scheme else None
        kept = None if size is None else size <= goal.max_bytes
        limits.append(SizeLimit(limit_bytes=goal.max_bytes, bytes=size, kept=kept))
    limits += [limit for name in names if (limit := _memory_limit(name, finding)) is not None]
    if (least := goal.min_accuracy) is not None:
        accuracy = validation_accuracy(scheme) if scheme else -math.inf
        known = accuracy if math.isfinite(accuracy) else None
        limits.append(
            AccuracyLimit(limit=least, accuracy_validation=known, kept=None if known is None else known >= least)
        )
    return tuple(limits)


def _latency_limit(target: str, finding: Finding) -> LatencyLimit:
    winner = finding.outcomes[target].winner
    proof = winner.proof if winner else None
    bound_ms = max(proof.bounds_ms) if proof else None
    kept = proof.met if proof else None
    return LatencyLimit(target=target, budget=finding.goals[target].budget, bound_ms=bound_ms, kept=kept)


def _memory_limit(target: str, finding: Finding) -> MemoryLimit | None:
    most, winner = finding.goals[target].max_memory_bytes, finding.outcomes[target].winner
    if most is None:
        return None
    memory = winner.scheme.peak_memory_bytes if winner and winner.scheme else None
    return MemoryLimit(target=target, limit_bytes=most, bytes=memory, kept=None if memory is None else memory <= most)


def _portable_trial(trial: Trial, bench: Workbench) -> Trial:
    """A trial whose files are named by their place in the cache, not by where the cache lies on this machine."""
    schemes = [
        result.model_copy(
            update={
                "artifact": result.artifact.model_copy(
                    update={"path": result.artifact.path.relative_to(bench.store.root)}
                )
            }
        )
        for result in trial.schemes
    ]
    return trial.model_copy(update={"schemes": tuple(schemes)})


def _student_summary(winner: Winner | None) -> StudentSummary | None:
    if winner is None:
        return None
    trial = winner.trial
    return StudentSummary(**trial.spec.model_dump(), parameters=trial.parameters, multiply_adds=trial.multiply_adds)


def _measured(trials: Sequence[Trial], budget: Budget) -> list[FrontierPoint]:
    """Every file that was measured and kept, with its validation accuracy."""
    return [
        FrontierPoint(
            trial=trial.number,
            precision=result.scheme.precision,
            latency_ms=result.latency.at(budget.percentile),
            accuracy_validation=validation_accuracy(result),
        )
        for trial in trials
        for result in trial.schemes
        if not result.dropped
        and isinstance(result.latency, MeasuredLatency)
        and isinstance(result.verification, Verified)
    ]


def _within_other_limits(trials: Sequence[Trial], goal: Goal) -> list[Trial]:
    """The trials, each with those of its files alone that keep all limits but the budget."""
    return [
        trial.model_copy(
            update={"schemes": tuple(s for s in trial.schemes if not misses_beside_latency(s, goal, trained_out=True))}
        )
        for trial in trials
    ]


def _budget_that_would_do(bench: Workbench, outcome: Outcome, goal: Goal) -> float | None:
    """The least larger budget that all samples taken so far of some file would have met, if that keeps all other limits: the
    acceptance rule's bound of its worst session, proofs that failed included."""
    budget = goal.budget
    bounds: dict[str, float] = {}
    for attempt in outcome.attempts:
        bounds[attempt.artifact_sha256] = max(attempt.bounds_ms)
    trials = _within_other_limits(outcome.trials, goal)
    for result in (result for trial in trials for result in trial.schemes):
        folder = bench.store.find("profile", result.profile) if result.profile and not result.dropped else None
        if folder is not None:
            profile = Profile.model_validate_json((folder / "profile.json").read_text())
            if min(len(session.samples_ns) for session in profile.sessions) < bench.min_samples:
                continue
            bound = max(proof(profile.sessions, budget, 0.0, profile.artifact_sha256).bounds_ms)
            sha256 = profile.artifact_sha256
            bounds[sha256] = max(bound, bounds.get(sha256, 0.0))
    return min((bound_ms for bound_ms in bounds.values() if bound_ms > budget.latency_ms), default=None)


def _verdict(
    finding: Finding, fastest_ms: float | None, fastest_keeping_ms: float | None, would_do_ms: float | None
) -> str:
    """One sentence with the figures that decide; `fastest_keeping_ms` is of a student that keeps all limits but the
    budget."""
    bench, budget, winner = finding.bench, finding.goal.budget, finding.outcome.winner
    limit = f"{format_ms(budget.latency_ms)} at {budget.percentile}"
    if bench.not_measurable:
        if winner is None:
            everywhere = f" that keeps every limit on {', '.join(finding.together)}" if finding.together else ""
            return f"Not measured: {bench.not_measurable}. There is no student{everywhere} either; the trials say why."
        how = f" To measure: {bench.target.how_to_measure}" if bench.target.how_to_measure else ""
        return f"Not measured: {bench.not_measurable}.{how}"
    if winner is None or winner.proof is None:
        if fastest_ms is None:
            return f"No candidate could be measured against the budget of {limit}; the trials say why."
        if finding.together:
            everywhere = ", ".join(finding.together)
            return (
                f"No one student keeps every limit on {everywhere}: here the budget is {limit}, "
                f"and the fastest student measured {format_ms(fastest_ms)}; the trials say what each lacked."
            )
        if fastest_keeping_ms is None:
            return (
                f"No student keeps the limits beside the budget of {limit}; the fastest one measured "
                f"{format_ms(fastest_ms)}; the trials say what each lacked."
            )
        which = "the fastest student" + " that keeps the other limits" * (fastest_keeping_ms > fastest_ms)
        hint = f" A budget of {format_ms(would_do_ms)} would do." if would_do_ms else ""
        return f"Budget of {limit} not met: {which} measured {format_ms(fastest_keeping_ms)}.{hint}"
    proof, scheme = winner.proof, winner.scheme
    assert scheme is not None
    return (
        f"{winner.trial.spec.label} in {scheme.scheme.label} is proven inside {limit} on {bench.target.title}: "
        f"at most {format_ms(max(proof.bounds_ms))} with 95% confidence in each of {proof.sessions} sessions, "
        f"{format_percent(validation_accuracy(scheme))} of the validation split."
    )


def _notes(finding: Finding) -> tuple[str, ...]:
    bench, outcome = finding.bench, finding.outcome
    notes = []
    if finding.together:
        notes.append(f"one student was searched for {', '.join(finding.together)}")
    if outcome.probes:
        probed = _counted(outcome.probes, "candidate", "was", "were")
        notes.append(f"{probed} measured with random weights before the first proposal")
    if outcome.attempts:
        failed = _counted(len(outcome.attempts), "file", "has", "have")
        notes.append(f"{failed} failed the acceptance rule" + " before the winner" * (outcome.winner is not None))
    proof = outcome.winner.proof if outcome.winner else None
    if proof and any(proof.set_aside_per_session):
        aside = _counted(sum(proof.set_aside_per_session), "run", "is", "are")
        notes.append(f"{aside} set aside in the proof: the processor was at another speed meanwhile")
    if bench.speed.elsewhere:
        notes.append(
            f"{bench.speed.elsewhere} of {bench.speed.sessions} sessions ran while the processor was at another speed than "
            "for the teacher, and were compared at its speed: a quieter machine gives better figures"
        )
    if bench.not_measurable:
        notes.append(f"not measured: {bench.not_measurable}")
    return tuple(notes)


def _counted(number: int, what: str, one: str, several: str) -> str:
    return f"{number} {what} {one}" if number == 1 else f"{number:,} {what}s {several}"


def environment(bench: Workbench) -> dict[str, str]:
    """What the build ran on: platform, device facts, versions of the tools that made and measured the files."""
    facts = dict(bench.device.facts()) if bench.device is not None else {}
    tools = {name: tool_version(name) for name in BUILD_TOOLS}
    return {"python": platform.python_version(), "platform": platform.platform(), **facts, **tools}
