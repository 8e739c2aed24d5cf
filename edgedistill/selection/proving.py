"""The guarantee: of the students that keep all limits, the best one of which the very files pass the acceptance rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgedistill.artifacts import Proof, SchemeResult
from edgedistill.errors import TrialFailure
from edgedistill.selection.contender import Contender, Finalist, Winner
from edgedistill.selection.goal import comparable_ms, validation_accuracy
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.record import Record
from edgedistill.units import format_ms, format_percent

# On a machine with neighbours the p95 of one file differs by so much from one session to another: who is slower than a file
# that failed the acceptance rule by no more may pass it.
MAX_SLOWER = 1.2


@dataclass(frozen=True)
class Proving:
    """Of `contenders`, which grow while the search goes on, for all of `targets`."""

    contenders: Sequence[Contender]
    targets: Sequence[OnTarget]
    record: Record

    def finalists(self) -> list[Finalist]:
        """The trained students that keep all limits on every target that can be measured, the best first. One that a
        measurement turned away stays away, whatever can be measured by now."""
        found = []
        for contender in self.contenders:
            if contender.trained_out and contender.state == "complete":
                kept = self._files_inside(contender)
                if kept is not None:
                    found.append(Finalist(contender, kept))
        goals = {target.name: target.goal for target in self.targets}
        return sorted(found, key=lambda finalist: finalist.rank(goals))

    def prove(self) -> dict[str, Winner]:
        """By target, the best finalist of which an exact file passes the acceptance rule on every target that can be
        measured; without any, the best one. Empty where there is none."""
        while finalists := self.finalists():
            finalist = finalists[0]
            proofs = self._attempt(finalist)
            if proofs is None:
                continue
            contender, files = finalist.contender, finalist.files
            proven = {name: f"proven inside the budget in {result.scheme.label}" for name, result in files.items()}
            reason = self.record.by_target(proven) if files else "trained through every rung; not measured"
            self.record.close(contender, "complete", reason)
            self._close_others(finalist)
            trained = contender.trained
            assert trained is not None
            return {
                name: Winner(contender.trial(name), trained, files.get(name), proofs.get(name))
                for name in (target.name for target in self.targets)
            }
        return {}

    def passed_over(self) -> list[Contender]:
        """Who was pruned for lack of promise, measured inside all limits, and may pass the acceptance rule."""
        found = []
        goals = {target.name: target.goal for target in self.targets}
        for contender in self.contenders:
            files = self._files_inside(contender) if contender.state == "pruned" else None
            if files and self.may_pass({name: comparable_ms(file, goals[name]) for name, file in files.items()}):
                found.append(contender)
        return found

    def may_pass(self, latencies_ms: Mapping[str, float]) -> bool:
        """Whether files with these latencies, by target, may pass the rule: not where one failed it that was faster by more
        than `MAX_SLOWER`."""
        return all(
            latencies_ms[target.name] < MAX_SLOWER * self._fastest_that_failed(target)
            for target in self.targets
            if target.name in latencies_ms
        )

    def _files_inside(self, contender: Contender) -> dict[str, SchemeResult] | None:
        """The best file on each target that can be measured; None where one has none inside all limits."""
        files = {t.name: contender.best(t.name, t.goal) for t in self.targets if t.lab.measurable}
        kept = {name: result for name, result in files.items() if result is not None}
        return kept if len(kept) == len(files) else None

    def _fastest_that_failed(self, target: OnTarget) -> float:
        return min(
            (
                comparable_ms(result, target.goal)
                for contender in self.contenders
                for result in contender.schemes.get(target.name, ())
                if result.artifact.sha256 in contender.failed_proofs
            ),
            default=math.inf,
        )

    def _attempt(self, finalist: Finalist) -> dict[str, Proof] | None:
        """The acceptance rule on a finalist's files, target by target. One that fails it, or whose sessions cannot be taken,
        is out, and there is no answer; nor is there where a device is lost meanwhile, which speaks against no file."""
        contender = finalist.contender
        assert contender.trained is not None
        proofs: dict[str, Proof] = {}
        for target in self.targets:
            if (result := finalist.files.get(target.name)) is None:
                continue
            try:
                proof = target.lab.prove(contender.trained, result, target.goal.budget)
            except TrialFailure as failure:
                if not target.lab.measurable:
                    return None
                reason = f"{result.scheme.label}: {failure.message}"
            else:
                if proof.met:
                    proofs[target.name] = proof
                    continue
                target.attempts.append(proof)
                worst = format_ms(max(proof.bounds_ms))
                reason = f"{result.scheme.label} fails the acceptance rule: bound {worst} in the worst session"
            contender.failed_proofs.add(result.artifact.sha256)
            contender.reason = self.record.on(target, reason)
            self.record.note(f"trial {contender.number}: {contender.reason}", warning=True)
            if contender.best(target.name, target.goal) is None:
                self.record.close(contender, "over_budget", contender.reason)
            return None
        return proofs

    def _close_others(self, winner: Finalist) -> None:
        """Say of each finalist what it lacked beside the winner."""
        for other in self.finalists():
            contender = other.contender
            if contender is winner.contender:
                continue
            own, best = self._figures(other), self._figures(winner)
            told = {name: f"{own[name]} in its best file, the winner {best[name]}" for name in own}
            if not told:
                beside = f"the winner {format_percent(winner.contender.accuracy)}"
                reason = f"{format_percent(contender.accuracy)} of the validation split, {beside}"
            else:
                reason = self.record.by_target(told)
            self.record.close(contender, "complete", reason)

    def _figures(self, finalist: Finalist) -> dict[str, str]:
        """By target, `98.30% of the validation split in 0.0512 ms`."""
        goals = {target.name: target.goal for target in self.targets}
        return {
            name: f"{format_percent(validation_accuracy(result), 2)} of the validation split in "
            f"{format_ms(comparable_ms(result, goals[name]))}"
            for name, result in finalist.files.items()
        }
