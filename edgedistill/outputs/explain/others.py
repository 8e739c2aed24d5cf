"""What each trial lacked that did not win."""

from __future__ import annotations

import math

from edgedistill.documents.artifacts import SchemeResult, Trial
from edgedistill.documents.explanation import Beaten, Lack, LessAccurate, OtherStudent, Rival, Slower, Stated
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Objective
from edgedistill.outputs.explain.limits import Judge, Judged, trained_out
from edgedistill.outputs.explain.winner import winning_file, winning_trial
from edgedistill.selection.goal import comparable_ms, provable_ms, ranked_quality, validation_quality


def other_students(result: BuildResult) -> tuple[OtherStudent, ...]:
    """Every trial but the winner's with what it lacked, the best first: those that kept all limits to the end, as the winner
    is chosen; then by how far they were trained and how accurate they were there. Where nothing won, by how little they miss
    the limits."""
    judge, winner = Judge(result), winning_trial(result)
    ranked = [(_order(trial, judge), _explained(trial, judge)) for trial in result.trials if trial is not winner]
    return tuple(other for _, other in sorted(ranked, key=lambda pair: (pair[0], pair[1].trial)))


def _explained(trial: Trial, judge: Judge) -> OtherStudent:
    found = judge.best_file(trial)
    scheme = found[0] if found else None
    quality = validation_quality(scheme) if scheme else -math.inf
    return OtherStudent(
        trial=trial.number,
        label=trial.spec.label,
        spec=trial.spec,
        state=trial.state,
        epochs=trial.rungs[-1].epochs if trial.rungs else 0,
        precision=scheme.scheme.precision if scheme else None,
        quality_validation=quality if math.isfinite(quality) else None,
        quality_model=trial.rungs[-1].quality_validation if trial.rungs else None,
        latency=scheme.latency if scheme and scheme.latency.kind == "measured" else trial.predicted,
        predicted=trial.predicted,
        lacks=_lacks(trial, judge, found),
        reason=trial.reason,
    )


def _lacks(trial: Trial, judge: Judge, found: Judged | None) -> tuple[Lack, ...]:
    if trial.state == "failed":
        return (Stated(about="failed", reason=trial.reason),)
    # Without a device every file lacks a measurement, the winner's too: what tells them apart is quality.
    broken = found[1] if found and judge.result.status != "unmeasured" else ()
    if broken:
        return broken
    behind = _behind(trial, judge, found[0] if found else None) if trained_out(trial, judge.result) else ()
    if trial.state == "pruned" and (beaten := _beaten(trial, judge.result)):
        return (beaten,)
    if behind:
        return behind
    dropped = "; ".join(f"{s.scheme.label}: {s.dropped}" for s in trial.schemes if s.dropped)
    if trial.schemes and not found:
        return (Stated(about="nothing_kept", reason=dropped),)
    return (Stated(about="other", reason=trial.reason),) if trial.reason else ()


def _behind(trial: Trial, judge: Judge, scheme: SchemeResult | None) -> tuple[Lack, ...]:
    """What a student that went through all rungs lacked beside the winner: by its file, by its student where both were
    cross-validated, or, where nothing is measured, by its torch model. Nothing where its file is the better one here: then
    another target had a say, or its proof could not be taken, and the search's own word says which."""
    result, goal = judge.result, judge.goal
    winner, chosen = winning_trial(result), winning_file(result)
    if winner is None:
        return ()
    if scheme is None or chosen is None:
        if result.status != "unmeasured" or not winner.rungs:
            return ()
        ours, theirs, images = trial.rungs[-1].quality_validation, winner.rungs[-1].quality_validation, None
        if trial.crossed is not None and winner.crossed is not None:
            ours, theirs, images = trial.crossed.quality, winner.crossed.quality, trial.crossed.images
        lack = LessAccurate(of_file=False, quality_validation=ours, winner=theirs, images=images)
        return (lack,) if ours < theirs else ()
    if judge.standing(scheme) < judge.standing(chosen):
        return ()
    lacks: list[Lack] = []
    ours, theirs = ranked_quality(scheme), ranked_quality(chosen)
    if ours < theirs and math.isfinite(ours):
        images = None if scheme.crossed is None else scheme.crossed.images
        lacks.append(LessAccurate(of_file=images is None, quality_validation=ours, winner=theirs, images=images))
    our_ms, their_ms = comparable_ms(scheme, goal), comparable_ms(chosen, goal)
    as_good = ours > theirs and goal.objective is Objective.QUALITY and judge.as_accurate(chosen)
    if our_ms > their_ms and (as_good or ours <= theirs or goal.objective is Objective.LATENCY):
        lacks.append(
            Slower(
                percentile=goal.budget.percentile,
                latency_ms=our_ms,
                winner_ms=their_ms,
                within=goal.quality_margin if as_good else None,
            )
        )
    return tuple(lacks)


def _beaten(trial: Trial, result: BuildResult) -> Beaten | None:
    """The trials that were at least as accurate at the rung where this one was pruned, and went past it. None where there
    are none: it was unlikely to reach the best one, and its reason says so."""
    last = trial.rungs[-1]
    past_it = (
        Rival(trial=other.number, label=other.spec.label, quality_validation=rung.quality_validation)
        for other in result.trials
        for rung in other.rungs[:-1]
        if other is not trial and rung.rung == last.rung and rung.quality_validation >= last.quality_validation
    )
    rivals = sorted(past_it, key=lambda rival: -rival.quality_validation)
    if not rivals:
        return None
    return Beaten(rung=last.rung, epochs=last.epochs, quality_model=last.quality_validation, by=tuple(rivals))


def _order(trial: Trial, judge: Judge) -> tuple[float, ...]:
    """Sorts trials, the best first."""
    result, found = judge.result, judge.best_file(trial)
    epochs = trial.rungs[-1].epochs if trial.rungs else 0
    quality = trial.rungs[-1].quality_validation if trial.rungs else 0.0
    if trial.state == "failed":
        return (3, -epochs, -quality)
    if trained_out(trial, result) and found and not found[1]:
        return (0, *judge.standing(found[0]))
    if result.status == "not_met":
        return (1, len(found[1]), provable_ms(found[0], judge.goal), -quality) if found else (2, -quality)
    return (1, -epochs, -quality)
