"""One candidate on its way through a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgedistill.documents.artifacts import CrossValidation, Rung, SchemeResult, TrainedStudent, Trial
from edgedistill.documents.measurements import Proof
from edgedistill.documents.specs import Goal, Objective
from edgedistill.selection.goal import (
    comparable_ms,
    misses,
    ranked_quality,
    surely_more_accurate,
    validation_quality,
    within_margin,
)
from edgedistill.selection.propose import Proposal

State = Literal["failed", "pruned", "over_budget", "complete"]


@dataclass(eq=False)
class RunningTrial:
    """A candidate that was begun: its proposal, trial number, rungs so far, weights and, by target, measured files.
    `trained_out` once it reached the last rung, and `crossed` where finalists are cross-validated."""

    proposal: Proposal
    number: int
    rungs: list[Rung] = field(default_factory=list)
    trained: TrainedStudent | None = None
    schemes: dict[str, tuple[SchemeResult, ...]] = field(default_factory=dict)
    state: State = "complete"
    reason: str = ""
    trained_out: bool = False
    crossed: CrossValidation | None = None

    @property
    def label(self) -> str:
        return self.proposal.candidate.spec.label

    @property
    def quality(self) -> float:
        """Validation quality at the last rung reached, of the torch model."""
        return self.rungs[-1].quality_validation if self.rungs else -math.inf

    def fitting(self, target: str, goal: Goal) -> list[SchemeResult]:
        """The files for `target` that were kept and keep the goal's limits."""
        return [
            result
            for result in self.schemes.get(target, ())
            if not result.dropped and not misses(result, goal, trained_out=self.trained_out)
        ]

    def why_not_fitting(self, target: str, goal: Goal) -> str:
        """Which limits the file for `target` does not keep that breaks the fewest, of several the fastest."""
        schemes = self.schemes.get(target, ())
        kept = sorted((r for r in schemes if not r.dropped), key=lambda result: comparable_ms(result, goal))
        if not kept:
            return "no precision was kept: " + "; ".join(s.dropped for s in schemes if s.dropped)
        fewest = min((misses(result, goal, trained_out=self.trained_out) for result in kept), key=len)
        return "; ".join(fewest)

    def tried(self, target: str, proof: Proof) -> None:
        """Keep a proof with the file of which it was tried."""
        self.schemes[target] = tuple(
            result.model_copy(update={"proof": proof}) if result.artifact.sha256 == proof.artifact_sha256 else result
            for result in self.schemes[target]
        )

    def keep_crossed(self, crossed: CrossValidation) -> None:
        """Keep a cross-validation, with all its files too: they are compared with those of other students by it."""
        self.crossed = crossed
        for target, schemes in self.schemes.items():
            self.schemes[target] = tuple(result.model_copy(update={"crossed": crossed}) for result in schemes)

    def trial(self, target: str) -> Trial:
        """What became of it, with its files and figures on `target`."""
        candidate = self.proposal.candidate
        return Trial(
            number=self.number,
            spec=candidate.spec,
            parameters=candidate.parameters,
            multiply_adds=candidate.multiply_adds,
            predicted=self.proposal.predicted[target],
            rungs=tuple(self.rungs),
            schemes=self.schemes.get(target, ()),
            crossed=self.crossed,
            state=self.state,
            reason=self.reason,
        )


@dataclass(frozen=True)
class Finalist:
    """A student that came to the last rung, with one file for each target that can be measured, all of which keep all
    limits. Without such targets it has none."""

    running_trial: RunningTrial
    files: Mapping[str, SchemeResult]

    def share(self, goals: Mapping[str, Goal]) -> float:
        """Latency as a share of the limit, on the target where that is largest; 0 where nothing is measured."""
        shares = (comparable_ms(f, goals[name]) / goals[name].limit_ms for name, f in self.files.items())
        return max(shares, default=0.0)

    @property
    def quality(self) -> float:
        """Validation quality of its least accurate file; of the torch model where nothing is measured."""
        return min(map(validation_quality, self.files.values()), default=self.running_trial.quality)

    @property
    def ranked_quality(self) -> float:
        """What it is ranked by: `goal.ranked_quality` of the file where that is least; of the student where nothing is
        measured."""
        crossed = self.running_trial.crossed
        alone = self.running_trial.quality if crossed is None else crossed.quality
        return min(map(ranked_quality, self.files.values()), default=alone)

    def as_good_as(self, best: Finalist, goals: Mapping[str, Goal]) -> bool:
        """Whether all its files are no less accurate than those of `best` by more than the goals' margin."""
        return all(within_margin(file, best.files[name], goals[name]) for name, file in self.files.items())

    def surely_more_accurate(self, other: Finalist) -> bool:
        """Whether every file of it is more accurate than that of `other`, on the same images with 95% confidence. False
        where nothing is measured."""
        return bool(self.files) and all(
            surely_more_accurate(file, other.files[name]) for name, file in self.files.items()
        )


def in_order(finalists: Sequence[Finalist], goals: Mapping[str, Goal]) -> list[Finalist]:
    """Finalists, the one that wins first: of those that are as good as the most accurate one the fastest, or the fastest of
    all where that is wanted; then the others by quality."""
    by_quality = sorted(finalists, key=lambda f: (-f.ranked_quality, -f.quality, f.share(goals)))
    if not by_quality or any(goal.objective is Objective.LATENCY for goal in goals.values()):
        return sorted(finalists, key=lambda f: (f.share(goals), -f.quality))
    best = by_quality[0]
    return sorted(
        by_quality, key=lambda f: (0, f.share(goals)) if f.as_good_as(best, goals) else (1, -f.ranked_quality)
    )


@dataclass(frozen=True)
class Winner:
    """The student to ship for one target: its trial and weights, the file that won there, and the proof (both None on a
    device that is not attached)."""

    trial: Trial
    trained: TrainedStudent
    scheme: SchemeResult | None
    proof: Proof | None
