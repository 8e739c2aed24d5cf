"""What a search found, in the words and figures of build.json and search.json."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgedistill.base.intervals import SMALL_SPLIT, lower_bound, resolves_loss, resolves_share
from edgedistill.base.store import tool_version
from edgedistill.base.units import format_ms, format_percent
from edgedistill.base.versions import __version__
from edgedistill.documents.artifacts import Trial, Verified, answers_of
from edgedistill.documents.measurements import MeasuredLatency, Proof
from edgedistill.documents.results import (
    Constraint,
    Found,
    FrontierPoint,
    LatencyLimit,
    MemoryLimit,
    QualityLimit,
    ScaleSummary,
    SizeLimit,
    StudentSummary,
)
from edgedistill.documents.specs import Goal, scored
from edgedistill.pipeline.code import build_tools
from edgedistill.pipeline.ensemble import open_ensemble
from edgedistill.pipeline.invocation import Invocation
from edgedistill.pipeline.workbench import Workbench
from edgedistill.selection.goal import (
    misses,
    misses_beside_latency,
    provable_ms,
    surely_more_accurate,
    validation_quality,
)
from edgedistill.selection.pareto import frontier
from edgedistill.selection.running_trial import Winner
from edgedistill.selection.search import Outcome


@dataclass(frozen=True)
class Finding:
    """What a search came to on one of its targets, `target`: the goals and outcomes of all, by target, and the workbench of
    this one. `began` is by time.monotonic; `before` is what an earlier build left in the same place; `invocation` is how the
    search was asked for."""

    bench: Workbench
    target: str
    goals: Mapping[str, Goal]
    outcomes: Mapping[str, Outcome]
    build_key: str
    began: float
    before: Found | None = None
    invocation: Invocation = field(default_factory=Invocation)

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
    winner = outcome.winner
    measured = _measured(outcome.trials, goal)
    keeping = _measured(_within_other_limits(outcome.trials, goal), goal)
    status: Literal["met", "not_met", "unmeasured"] = (
        "unmeasured" if bench.meter.not_measurable else "met" if winner and winner.proof else "not_met"
    )
    fastest_ms = min((p.latency_ms for p in measured), default=None)
    fastest_keeping_ms = min((p.latency_ms for p in keeping), default=None)
    # Where one student is to serve several targets, no budget of one of them alone would do.
    offered = status == "not_met" and not finding.together
    would_do_ms = _budget_that_would_do(outcome, goal) if offered else None
    return Found(
        edgedistill_version=__version__,
        build_key=finding.build_key,
        build_file=finding.invocation.build_file,
        overrides=dict(finding.invocation.overrides),
        occasion=bench.meter.occasion,
        status=status,
        verdict=_verdict(finding, fastest_ms, fastest_keeping_ms, would_do_ms),
        target=finding.target,
        objective=goal.objective,
        metric=bench.task.metric,
        quality_margin=goal.quality_margin,
        constraints=_constraints(finding),
        student=_student_summary(winner),
        proof=winner.proof if winner else None,
        attempts=tuple(outcome.attempts),
        earlier=_earlier(finding),
        scale=_scale(bench),
        recipe=bench.choice,
        not_fetched=bench.not_fetched,
        rungs=bench.rungs,
        trials=tuple(_portable_trial(trial, bench) for trial in outcome.trials),
        frontier=frontier(measured, latency_ms=lambda p: p.latency_ms, quality=lambda p: p.quality_validation),
        predicted=outcome.predicted,
        stopped=outcome.stopped,
        fastest_ms=fastest_ms,
        budget_that_would_do_ms=would_do_ms,
        notes=_notes(finding),
        environment={
            "python": platform.python_version(),
            "platform": platform.platform(),
            **bench.meter.facts(),
            **{name: tool_version(name) for name in build_tools(bench.target)},
        },
        seconds=time.monotonic() - finding.began,
    )


def _constraints(finding: Finding) -> tuple[Constraint, ...]:
    """What was asked for, this target's own first, and what the winner's files came to: of size and quality the file for
    this target, of latency and memory those for every target that it is to serve."""
    bench, goal, winner = finding.bench, finding.goal, finding.outcome.winner
    scheme = winner.scheme if winner else None
    names = (finding.target, *(name for name in finding.goals if name != finding.target))
    limits: list[Constraint] = [_latency_limit(name, finding) for name in names]
    if goal.max_bytes is not None:
        size = scheme.artifact.bytes if scheme else None
        kept = None if size is None else size <= goal.max_bytes
        limits.append(SizeLimit(limit_bytes=goal.max_bytes, bytes=size, kept=kept))
    limits += [limit for name in names if (limit := _memory_limit(name, finding)) is not None]
    if (least := goal.min_quality) is not None:
        answers = answers_of(scheme) if scheme and isinstance(scheme.verification, Verified) else None
        limits.append(
            QualityLimit(
                limit=least,
                quality_validation=None if answers is None else answers.quality,
                lower_bound=None if answers is None else lower_bound(answers.quality, answers.images),
                resolved=resolves_share(least, answers.images if answers else len(bench.dataset.splits.validation)),
                kept=None if answers is None else answers.above(least),
            )
        )
    return tuple(limits)


def _latency_limit(target: str, finding: Finding) -> LatencyLimit:
    winner, goal = finding.outcomes[target].winner, finding.goals[target]
    proof = winner.proof if winner else None
    kept = proof.met if proof else None
    return LatencyLimit(target=target, budget=goal.budget, aim_ms=goal.aim_ms, proof=proof, kept=kept)


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


def _measured(trials: Sequence[Trial], goal: Goal) -> list[FrontierPoint]:
    """Every file that was measured and kept, with its validation quality."""
    return [
        FrontierPoint(
            trial=trial.number,
            precision=result.scheme.precision,
            latency_ms=provable_ms(result, goal),
            quality_validation=validation_quality(result),
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


def _budget_that_would_do(outcome: Outcome, goal: Goal) -> float | None:
    """The least larger budget of which a proof should succeed: of a file that keeps all other limits, what it measured with
    room for how sessions differ, or what a proof of it that is not met has shown. A share is at most all of the teacher's
    latency, as a budget is asked for."""
    if goal.aim_ms is None:
        return None
    share, room = goal.budget.share_of_teacher, goal.limit_ms / goal.budget.latency_ms
    most_ms = math.inf if share is None else goal.budget.latency_ms / share
    enough = [
        provable_ms(result, goal) / (1.0 if result.disproven else room)
        for trial in _within_other_limits(outcome.trials, goal)
        for result in trial.schemes
        if not result.dropped and isinstance(result.latency, MeasuredLatency)
    ]
    return min((budget_ms for budget_ms in enough if goal.budget.latency_ms < budget_ms <= most_ms), default=None)


def _scale(bench: Workbench) -> ScaleSummary | None:
    if (scale := bench.meter.scale) is None:
        return None
    return ScaleSummary(anchor_sha256=scale.anchor.sha256, anchor_ms=scale.anchor_ms, spread=scale.spread, at=scale.at)


def _earlier(finding: Finding) -> tuple[Proof, ...]:
    """The proofs of builds before this one in the same folder, met or not, where this one took measurements of its own: a
    budget that is met at the third try has the other two beside it."""
    before, outcome = finding.before, finding.outcome
    if before is None:
        return ()
    now = (*outcome.attempts, outcome.winner.proof if outcome.winner else None)
    then = (*before.attempts, *((before.proof,) if before.proof else ()))
    return (*before.earlier, *(proof for proof in then if proof not in now))


def _verdict(
    finding: Finding, fastest_ms: float | None, fastest_keeping_ms: float | None, would_do_ms: float | None
) -> str:
    """One sentence with the figures that decide; `fastest_keeping_ms` is of a student that keeps all limits but the
    budget."""
    bench, budget, winner = finding.bench, finding.goal.budget, finding.outcome.winner
    limit, shown = budget.claim, budget.in_its_unit
    if bench.meter.not_measurable:
        if winner is None:
            everywhere = f" that keeps every limit on {', '.join(finding.together)}" if finding.together else ""
            return f"Not measured: {bench.meter.not_measurable}. There is no student{everywhere} either; the trials say why."
        how = f" To measure: {bench.target.how_to_measure}" if bench.target.how_to_measure else ""
        return f"Not measured: {bench.meter.not_measurable}.{how}"
    if winner is None or winner.proof is None:
        if fastest_ms is None:
            return f"No candidate could be measured against the budget of {limit}; the trials say why."
        if finding.together:
            everywhere = ", ".join(finding.together)
            return (
                f"No one student keeps every limit on {everywhere}: here the budget is {limit}, "
                f"and the fastest student measured {shown(fastest_ms)}; the trials say what each lacked."
            )
        if fastest_keeping_ms is None:
            return (
                f"No student keeps the limits beside the budget of {limit}; the fastest one measured "
                f"{shown(fastest_ms)}; the trials say what each lacked."
            )
        which = "the fastest student" + " that keeps the other limits" * (fastest_keeping_ms > fastest_ms)
        noisy = _not_provable(finding) if fastest_keeping_ms <= budget.latency_ms else ""
        hint = f" A budget of {shown(would_do_ms)} should be provable." if would_do_ms else ""
        return f"Budget of {limit} not met: {which} measured {shown(fastest_keeping_ms)}{noisy}.{hint}"
    proof, scheme = winner.proof, winner.scheme
    assert scheme is not None
    return (
        f"{winner.trial.spec.label} in {scheme.scheme.label} is proven inside {budget.claim} on {bench.target.title}: "
        f"{proof.sentence}. It "
        f"{scored(bench.task.metric, format_percent(validation_quality(scheme)), 'the validation split')}."
    )


def _not_provable(finding: Finding) -> str:
    """Why a file inside the budget is not proven; empty where it is not known how sessions differ."""
    if seen := [proof.spread for proof in finding.outcome.attempts]:
        return f" and is not proven: sessions differ by {format_percent(max(seen))} here"
    goal = finding.goal
    if goal.limit_ms == goal.budget.latency_ms:
        return ""
    return f" and is not proven: {goal.budget.in_its_unit(goal.limit_ms)} can be proven where sessions differ as here"


def _notes(finding: Finding) -> tuple[str, ...]:
    bench, outcome = finding.bench, finding.outcome
    notes = []
    if finding.together:
        notes.append(f"one student was searched for {', '.join(finding.together)}")
    if bench.not_fetched:
        names = ", ".join(bench.not_fetched)
        notes.append(
            f"the pretrained weights of {names} could not be fetched; the same build with a network tries them"
        )
    if outcome.probes:
        probed = _counted(outcome.probes, "candidate")
        notes.append(f"{probed} measured with random weights before the first proposal")
    if outcome.attempts:
        failed = _counted(len(outcome.attempts), "file")
        notes.append(f"{failed} not proven" + " before the winner" * (outcome.winner is not None))
    if (ensemble := open_ensemble(bench)) is not None:
        notes.append(ensemble.sentence)
    notes += _unresolved(finding)
    notes += _changes(finding)
    if bench.meter.not_measurable:
        notes.append(f"not measured: {bench.meter.not_measurable}")
    return tuple(notes)


def _unresolved(finding: Finding) -> Iterator[str]:
    """What the validation split is too small to tell: what was seen decides there."""
    bench, goal = finding.bench, finding.goal
    count = len(bench.dataset.splits.validation)
    loss = bench.export.max_quality_loss
    if not resolves_loss(loss, count):
        what = "what was seen decides" if loss * count >= 1 else "one of them may be lost"
        yield f"unresolved: {count} validation images cannot tell a loss of {format_percent(loss)}; {what}"
    if count < SMALL_SPLIT and (rivals := _rivals(finding)):
        others = "another student" if rivals == 1 else f"{rivals} other students"
        best = finding.outcome.winner.scheme if finding.outcome.winner else None
        crossed = best.crossed if best else None
        judges = f"{crossed.images} images in cross-validation" if crossed else f"{count} validation images"
        yield f"unresolved: {judges} do not tell whether the winner or {others} is more accurate"
    if goal.min_quality is not None and not resolves_share(goal.min_quality, count):
        least, metric = format_percent(goal.min_quality), bench.task.metric
        quality = "an accuracy" if metric == "accuracy" else f"a {metric}"
        yield f"unresolved: {count} validation images cannot tell {quality} of {least}; what was seen decides"


def _rivals(finding: Finding) -> int:
    """Students beside the winner with a file that keeps all limits and is not surely less accurate than the winner's."""
    goal, winner = finding.goal, finding.outcome.winner
    if winner is None or (best := winner.scheme) is None:
        return 0
    others = [trial for trial in finding.outcome.trials if trial.spec != winner.trial.spec]
    return sum(
        any(not misses(s, goal, trained_out=True) and not surely_more_accurate(best, s) for s in trial.schemes)
        for trial in others
        if trial.rungs and trial.rungs[-1].epochs == finding.bench.rungs[-1]
    )


CHANGED = 0.10
"""From this share on, a difference of the anchor's latency between two builds is worth a word."""


def _changes(finding: Finding) -> Iterator[str]:
    """What differs from an earlier build in the same folder: the machine, and which student won for which measurement."""
    before, bench, winner = finding.before, finding.bench, finding.outcome.winner
    if before is None or before.scale is None or bench.meter.scale is None:
        return
    percentile = finding.goal.budget.percentile
    then, now = before.scale.anchor_ms.at(percentile), bench.meter.scale.anchor_ms.at(percentile)
    if before.scale.anchor_sha256 == bench.meter.scale.anchor.sha256 and abs(now / then - 1) > CHANGED:
        yield (
            f"the machine has changed since {before.scale.at}: {percentile} of the anchor was {format_ms(then)} then and "
            f"is {format_ms(now)}"
        )
    if winner is None or before.student is None or before.student.spec == winner.trial.spec:
        return
    spec, goal = before.student.spec, finding.goal
    searches = (before.trials, finding.outcome.trials)
    old, new = (next((trial for trial in trials if trial.spec == spec), None) for trials in searches)
    if old is None or new is None:
        yield f"another student than before: {spec.label} was not tried this time"
        return
    files = [min((provable_ms(s, goal) for s in trial.schemes), default=math.inf) for trial in (old, new)]
    then_ms, now_ms = (goal.budget.in_its_unit(ms) if math.isfinite(ms) else "not measured" for ms in files)
    yield f"another student than before: {percentile} of {spec.label} was {then_ms} and is {now_ms} ({new.reason})"


def _counted(number: int, what: str) -> str:
    return f"{number} {what} was" if number == 1 else f"{number:,} {what}s were"
