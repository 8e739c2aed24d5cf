"""One candidate on its way through a search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from edgedistill.artifacts import Proof, Rung, SchemeResult, TrainedStudent, Trial
from edgedistill.selection.goal import comparable_ms, misses
from edgedistill.selection.propose import Proposal
from edgedistill.specs import Goal

State = Literal["failed", "pruned", "over_budget", "complete"]


@dataclass(eq=False)
class Contender:
    """A candidate that was begun: its proposal, trial number, rungs so far, weights and measured files. `trained_out` once
    it reached the last rung, `failed_proofs` the hashes of its files that the acceptance rule turned away."""

    proposal: Proposal
    number: int
    rungs: list[Rung] = field(default_factory=list)
    trained: TrainedStudent | None = None
    schemes: tuple[SchemeResult, ...] = ()
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

    def fitting(self, goal: Goal) -> list[SchemeResult]:
        """The files that were kept, keep the goal's limits, and have not failed the acceptance rule."""
        return [
            result
            for result in self.schemes
            if not result.dropped
            and result.artifact.sha256 not in self.failed_proofs
            and not misses(result, goal, trained_out=self.trained_out)
        ]

    def why_not_fitting(self, goal: Goal) -> str:
        """Which limits the file does not keep that breaks the fewest, of several the fastest."""
        kept = sorted((r for r in self.schemes if not r.dropped), key=lambda result: comparable_ms(result, goal))
        if not kept:
            return "no precision was kept: " + "; ".join(s.dropped for s in self.schemes if s.dropped)
        broken = sorted(
            (misses(result, goal, trained_out=self.trained_out) for result in kept), key=lambda found: len(found)
        )
        return "; ".join(broken[0])

    def trial(self) -> Trial:
        candidate = self.proposal.candidate
        return Trial(
            number=self.number,
            spec=candidate.spec,
            parameters=candidate.parameters,
            multiply_adds=candidate.multiply_adds,
            predicted=self.proposal.predicted,
            rungs=tuple(self.rungs),
            schemes=self.schemes,
            state=self.state,
            reason=self.reason,
        )


@dataclass(frozen=True)
class Winner:
    """The student to ship: its trial and weights, the precision that won, and the proof (None on a device that is not
    attached)."""

    trial: Trial
    trained: TrainedStudent
    scheme: SchemeResult | None
    proof: Proof | None
