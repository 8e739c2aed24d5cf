"""The guarantee: of the students that keep all limits, the best one of which the very files are proven."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from edgedistill.base.errors import TrialFailure
from edgedistill.base.units import format_percent
from edgedistill.devices.proof import FINALISTS, aim
from edgedistill.documents.artifacts import CrossValidation, SchemeResult
from edgedistill.documents.measurements import Proof
from edgedistill.selection.goal import comparable_ms, validation_quality
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.record import Record
from edgedistill.selection.running_trial import Finalist, RunningTrial, Winner, in_order


@dataclass(frozen=True)
class Proving:
    """Of `running_trials`, which grow while the search goes on, for all of `targets`."""

    running_trials: Sequence[RunningTrial]
    targets: Sequence[OnTarget]
    record: Record

    def finalists(self) -> list[Finalist]:
        """The trained students that keep all limits on every target that can be measured, once with each of their
        files, the best first. One that was rejected stays so, whatever can be measured by now, unless a proof shows that
        it may be inside."""
        found = []
        measurable = [target for target in self.targets if target.lab.measurable]
        for running_trial in self.running_trials:
            if running_trial.trained_out and running_trial.state == "complete":
                files = [[(t.name, file) for file in running_trial.fitting(t.name, t.goal)] for t in measurable]
                found += [Finalist(running_trial, dict(chosen)) for chosen in product(*files)]
        return in_order(found, {target.name: target.goal for target in self.targets})

    @property
    def exhausted(self) -> bool:
        """Whether as many finalists failed, on whichever target, as the plan allows, fixed before the first sample. Each
        finalist takes its part of the alpha of every target that it is tried on."""
        return self._failed >= FINALISTS

    @property
    def _failed(self) -> int:
        return sum(len(target.attempts) + target.broken_off for target in self.targets)

    def prove(self) -> dict[str, Winner]:
        """By target, the best finalist of which an exact file is proven on every target that can be measured; without
        any, the best one. Empty where there is none, or no further proof may be tried.

        A proof that is met shows how much longer a file may take and still be proven. Where a student that was taken for
        too slow may be, by that, and is surely more accurate, its proof is tried as well, as far as the plan allows."""
        self._close_outside()
        proven: list[tuple[Finalist, dict[str, Proof]]] = []
        while self._failed + len(proven) < FINALISTS and (finalists := self.finalists()):
            finalist = finalists[0]
            if proven and not finalist.surely_more_accurate(proven[-1][0]):
                break
            if (proofs := self._attempt(finalist)) is not None:
                proven.append((finalist, proofs))
                self._reopen(finalist, proofs)
        return self._won(*proven[-1]) if proven else {}

    def _won(self, finalist: Finalist, proofs: Mapping[str, Proof]) -> dict[str, Winner]:
        running_trial, files = finalist.running_trial, finalist.files
        told = {name: f"proven inside the budget in {result.scheme.label}" for name, result in files.items()}
        reason = self.record.by_target(told) if files else "trained through every rung; not measured"
        self.record.close(running_trial, "complete", reason)
        self._close_others(finalist)
        trained = running_trial.trained
        assert trained is not None
        return {
            name: Winner(running_trial.trial(name), trained, files.get(name), proofs.get(name))
            for name in (target.name for target in self.targets)
        }

    def _reopen(self, proven: Finalist, proofs: Mapping[str, Proof]) -> None:
        """Aim by what these proofs show, and count the students in again that are inside by that."""
        for target in self.targets:
            if target.name in proofs:
                target.aim_as_shown(_shown_ms(target, proven.files[target.name], proofs[target.name]))
        measurable = [target for target in self.targets if target.lab.measurable]
        for one in self.running_trials:
            outside = one.trained_out and one.state == "over_budget"
            if outside and all(one.fitting(target.name, target.goal) for target in measurable):
                one.state, one.reason = "complete", ""

    def _attempt(self, finalist: Finalist) -> dict[str, Proof] | None:
        """A finalist's files proven, target by target. One of which the proof is not met, or whose sessions cannot be
        taken, is out, and there is no answer; nor is there where a device is lost meanwhile, which speaks against no
        file."""
        running_trial = finalist.running_trial
        assert running_trial.trained is not None
        proofs: dict[str, Proof] = {}
        for target in self.targets:
            if (result := finalist.files.get(target.name)) is None:
                continue
            try:
                proof = target.lab.prove(running_trial.trained, result, target.goal.budget)
            except TrialFailure as failure:
                if target.lab.measurable:
                    target.broken_off += 1
                    self.record.close(running_trial, "failed", self.record.on(target, failure.message))
                return None
            running_trial.tried(target.name, proof)
            if proof.met:
                proofs[target.name] = proof
                continue
            target.attempts.append(proof)
            target.aim_below(_shown_ms(target, result, proof))
            running_trial.reason = self.record.on(target, f"{result.scheme.label} is not proven: {proof.sentence}")
            self.record.note(f"trial {running_trial.number}: {running_trial.reason}", warning=True)
            self._close_outside()
            return None
        return proofs

    def _close_outside(self) -> None:
        """Say of each trained student that is inside no more, since the aim was lowered, what it lacks."""
        for target in self.targets:
            if not target.lab.measurable:
                continue
            for one in self.running_trials:
                if one.trained_out and one.state == "complete" and not one.fitting(target.name, target.goal):
                    why = one.reason or self.record.on(target, one.why_not_fitting(target.name, target.goal))
                    self.record.close(one, "over_budget", why)

    def _close_others(self, winner: Finalist) -> None:
        """Say of each finalist what it lacked beside the winner, by the best of its files."""
        told_of = {winner.running_trial}
        for other in self.finalists():
            running_trial = other.running_trial
            if running_trial in told_of:
                continue
            told_of.add(running_trial)
            own, best = self._figures(other), self._figures(winner)
            told = {name: f"{own[name]} in its best file, the winner {best[name]}" for name in own}
            reason = self.record.by_target(told) or (
                f"{_judged(running_trial.quality, running_trial.crossed)}, "
                f"the winner {_judged(winner.running_trial.quality, winner.running_trial.crossed)}"
            )
            self.record.close(running_trial, "complete", reason)

    def _figures(self, finalist: Finalist) -> dict[str, str]:
        """By target, `98.30% of the validation split in 0.0512 ms`, or in a share of the teacher's latency."""
        goals = {target.name: target.goal for target in self.targets}
        return {
            name: f"{_judged(validation_quality(result), result.crossed)} in "
            f"{goals[name].budget.in_its_unit(comparable_ms(result, goals[name]))}"
            for name, result in finalist.files.items()
        }


def _judged(quality: float, crossed: CrossValidation | None) -> str:
    """`98.30% of the validation split`, and where a student was cross-validated, what it came to there."""
    told = f"{format_percent(quality, 2)} of the validation split"
    if crossed is None:
        return told
    return f"{told} and {format_percent(crossed.quality, 2)} of {crossed.images} images in cross-validation"


def _shown_ms(target: OnTarget, result: SchemeResult, proof: Proof) -> float:
    """What a file should stay below to be proven, by the proof of one, met or not: it tells how latency turns out over
    sessions, and how that compares with what the search went by."""
    typical = math.exp(statistics.fmean(map(math.log, proof.values)))
    limit_ms = comparable_ms(result, target.goal) * proof.limit / typical
    return aim(limit_ms, proof.spread)
