"""One candidate on its way through a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgedistill.artifacts import Proof, Rung, SchemeResult, TrainedStudent, Trial
from edgedistill.selection.goal import comparable_ms, misses, rank, validation_accuracy
from edgedistill.selection.propose import Proposal
from edgedistill.specs import Goal, Objective

State = Literal["failed", "pruned", "over_budget", "complete"]


@dataclass(eq=False)
class Contender:
    """A candidate that was begun: its proposal, trial number, rungs so far, weights and, by target, measured files.
    `trained_out` once it reached the last rung, `failed_proofs` the hashes of its files that the acceptance rule turned
    away."""

    proposal: Proposal
    number: int
    rungs: list[Rung] = field(default_factory=list)
    trained: TrainedStudent | None = None
    schemes: dict[str, tuple[SchemeResult, ...]] = field(default_factory=dict)
    state: State = "complete"
    reason: str = ""
    trained_out: bool = False
    failed_proofs: set[str] = field(default_factory=set)

    @property
    def label(self) -> str:
        return self.proposal.candidate.spec.label

    @property
    def accuracy(self) -> float:
        """Validation accuracy at the last rung reached, of the torch model."""
        return self.rungs[-1].accuracy_validation if self.rungs else -math.inf

    def best(self, target: str, goal: Goal) -> SchemeResult | None:
        """The best of the files for `target` that were kept, keep the goal's limits, and have not failed the acceptance
        rule; None where there is none."""
        fitting = [
            result
            for result in self.schemes.get(target, ())
            if not result.dropped
            and result.artifact.sha256 not in self.failed_proofs
            and not misses(result, goal, trained_out=self.trained_out)
        ]
        return min(fitting, key=lambda result: rank(result, goal), default=None)

    def why_not_fitting(self, target: str, goal: Goal) -> str:
        """Which limits the file for `target` does not keep that breaks the fewest, of several the fastest."""
        schemes = self.schemes.get(target, ())
        kept = sorted((r for r in schemes if not r.dropped), key=lambda result: comparable_ms(result, goal))
        if not kept:
            return "no precision was kept: " + "; ".join(s.dropped for s in schemes if s.dropped)
        broken = sorted(
            (misses(result, goal, trained_out=self.trained_out) for result in kept), key=lambda found: len(found)
        )
        return "; ".join(broken[0])

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
            state=self.state,
            reason=self.reason,
        )


@dataclass(frozen=True)
class Finalist:
    """A student that came to the last rung and keeps all limits: by target its best file there. Targets that cannot be
    measured have none."""

    contender: Contender
    files: Mapping[str, SchemeResult]

    def share(self, goals: Mapping[str, Goal]) -> float:
        """Latency as a share of the budget, on the target where that is largest. Some file must be measured."""
        return max(comparable_ms(f, goals[name]) / goals[name].budget.latency_ms for name, f in self.files.items())

    def rank(self, goals: Mapping[str, Goal]) -> tuple[float, float]:
        """Sorts finalists, the best first: by the accuracy of their least accurate file, or by `share`; where nothing is
        measured, by the accuracy of the torch model."""
        if not self.files:
            return -self.contender.accuracy, 0.0
        accuracy = min(validation_accuracy(result) for result in self.files.values())
        if any(goals[name].objective is Objective.LATENCY for name in self.files):
            return self.share(goals), -accuracy
        return -accuracy, self.share(goals)


@dataclass(frozen=True)
class Winner:
    """The student to ship for one target: its trial and weights, the file that won there, and the proof (both None on a
    device that is not attached)."""

    trial: Trial
    trained: TrainedStudent
    scheme: SchemeResult | None
    proof: Proof | None
