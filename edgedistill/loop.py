"""The loop: propose -> realise -> record, until a student is proven inside the budget or none is left to try.

A bracket of successive halving trains a batch of candidates to the first rung. In order of validation accuracy each
is made into real files and measured before it may go on; a measurement over the budget turns it away, and every
measurement refits the latency model that proposes replacements. The finalists' exact files are measured again, and the
most accurate one must pass the acceptance rule; where it does not, the next is tried, then a new bracket.

Every decision reads the validation split and cached stages only, so a build that was killed takes the same way again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgedistill.artifacts import (
    MeasuredLatency,
    PredictedLatency,
    Proof,
    Rung,
    SchemeResult,
    TrainedStudent,
    Trial,
    Verified,
)
from edgedistill.devices.stats import proof
from edgedistill.errors import TrialFailure, UnsupportedError
from edgedistill.files import compiled, portable
from edgedistill.latency.features import features_of
from edgedistill.latency.model import LatencyModel, Row, choose_probes, prior_from_published
from edgedistill.pipeline import latency_of, profiled, source_of, train, untrained
from edgedistill.progress import Note
from edgedistill.realise import realise
from edgedistill.search.propose import Proposal, fastest, propose
from edgedistill.search.study import Study
from edgedistill.specs import Budget, Precision
from edgedistill.students.space import Candidate
from edgedistill.teachers.cache import ViewStore
from edgedistill.units import format_ms, format_percent
from edgedistill.workbench import Workbench

MAX_BRACKETS = 3
State = Literal["failed", "pruned", "over_budget", "complete"]


@dataclass(eq=False)
class Contender:
    """One candidate on its way through a bracket."""

    proposal: Proposal
    number: int
    rungs: list[Rung] = field(default_factory=list)
    trained: TrainedStudent | None = None
    schemes: tuple[SchemeResult, ...] = ()
    state: State = "complete"
    reason: str = ""

    @property
    def label(self) -> str:
        return self.proposal.candidate.spec.label

    @property
    def accuracy(self) -> float:
        """Validation accuracy at the last rung reached."""
        return self.rungs[-1].accuracy_validation if self.rungs else -math.inf

    def fitting(self, budget: Budget) -> list[SchemeResult]:
        """The precisions that were kept and measured inside the budget."""
        return [
            s
            for s in self.schemes
            if not s.dropped
            and isinstance(s.latency, MeasuredLatency)
            and s.latency.comparable(budget.percentile) <= budget.latency_ms
        ]

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


@dataclass(frozen=True)
class Outcome:
    """What a search ends with. `attempts` are the proofs that failed before the winner's."""

    winner: Winner | None
    trials: tuple[Trial, ...]
    attempts: tuple[Proof, ...]
    probes: int


@dataclass(eq=False)
class Search:
    """One search: the candidates, the budget, what was measured so far. Candidates above `plausible_multiply_adds` are too
    far over the budget to be worth a probe."""

    bench: Workbench
    views: ViewStore
    budget: Budget
    candidates: Sequence[Candidate]
    study: Study
    plausible_multiply_adds: float
    contenders: list[Contender] = field(default_factory=list)
    rows: dict[Precision, list[Row]] = field(default_factory=dict)
    attempts: list[Proof] = field(default_factory=list)
    probes: int = 0
    tried_fastest: bool = False

    def run(self) -> Outcome:
        """Search until a student is proven, or nothing with a chance is left."""
        self.probe()
        winner = None
        for bracket in range(MAX_BRACKETS + 1):
            batch = self.next_batch(last=bracket == MAX_BRACKETS)
            if not batch:
                break
            winner = self.prove(self.halve(batch))
            if winner:
                break
        if winner is None and self.measurable and not any(c.schemes for c in self.contenders):
            self.note("every candidate failed before it could be measured", warning=True)
        trials = tuple(c.trial() for c in sorted(self.contenders, key=lambda c: c.number))
        return Outcome(winner, trials, tuple(self.attempts), self.probes)

    # -- latency: what is known so far ------------------------------------------------------------------------

    @property
    def measurable(self) -> bool:
        return self.bench.device is not None and not self.bench.not_measurable

    def probe(self) -> None:
        """Measure a few candidates with random weights, chosen to tell most about all the others near the budget."""
        if not self.measurable:
            return
        wanted = self.bench.config.search.probes
        by_work = sorted(self.candidates, key=lambda c: (c.multiply_adds, c.spec.label))
        near = sum(c.multiply_adds <= self.plausible_multiply_adds for c in by_work)
        pool = by_work[: max(near, 2 * wanted)]
        for index in choose_probes([features_of(c.structure) for c in pool], wanted):
            source = untrained(self.bench, pool[index].spec)
            for scheme in self.bench.schemes:
                try:
                    artifact = compiled(self.bench, portable(self.bench, source, scheme, self.bench.target.runtime))
                    latency = latency_of(self.bench, profiled(self.bench, artifact, source, sessions=1))
                except (TrialFailure, UnsupportedError) as failure:
                    self.note(f"probe {source.label} {scheme.label}: {failure.message}", warning=True)
                    continue
                self.learn(scheme.precision, pool[index], latency)
            self.probes += 1

    def learn(self, precision: Precision, candidate: Candidate, latency: object) -> None:
        """A measurement becomes a row of the latency model."""
        if isinstance(latency, MeasuredLatency):
            row = Row(features_of(candidate.structure), latency.comparable(self.budget.percentile))
            self.rows.setdefault(precision, []).append(row)

    def models(self) -> dict[Precision, LatencyModel]:
        """A latency model for each precision measured so far; on a device that is not attached, what published figures
        give."""
        if self.measurable:
            return {p: LatencyModel.fit(rows) for p, rows in self.rows.items() if len(rows) >= 3}
        prior = prior_from_published(self.bench.target)
        return {prior.precision: prior.model} if prior else {}

    # -- proposals ----------------------------------------------------------------------------------------------

    def propose(self, count: int) -> tuple[Proposal, ...]:
        tried = {c.proposal.candidate.spec for c in self.contenders}
        return propose(
            self.candidates, self.models(), self.budget, device=self.bench.target.name, count=count, tried=tried
        )

    def next_batch(self, last: bool) -> tuple[Proposal, ...]:
        """The next candidates to train. Where none has a chance (or this is the `last` bracket), the fastest ones, once: a
        budget is called impossible on measurements, not on predictions."""
        wanted = self.bench.config.search.candidates
        batch = () if last else self.propose(wanted)
        if batch or self.tried_fastest:
            return batch
        self.tried_fastest = True
        self.note("no candidate is predicted to fit the budget: trying the fastest ones", warning=True)
        tried = {c.proposal.candidate.spec for c in self.contenders}
        name, count = self.bench.target.name, max(1, wanted // 2)
        likely = fastest(self.candidates, self.models(), self.budget, device=name, count=count, tried=set())
        return tuple(p for p in likely if p.candidate.spec not in tried)

    # -- one bracket --------------------------------------------------------------------------------------------

    def halve(self, batch: Sequence[Proposal]) -> list[Contender]:
        """Successive halving. Returns the finalists, trained to the last rung and measured."""
        search = self.bench.config.search
        alive = self.first_rung(batch)
        for rung in range(1, len(search.rungs)):
            alive = [c for c in alive if self.train(c, rung)]
            if rung < len(search.rungs) - 1:
                alive = self.promote(alive, rung, math.ceil(len(alive) * search.keep))
        return [c for c in alive if self.measure(c, last=True)]

    def first_rung(self, batch: Sequence[Proposal]) -> list[Contender]:
        """Train the batch to the first rung and promote the most accurate that measure inside the budget; those turned
        away are replaced, once, by what the refitted latency model proposes."""
        keep = self.bench.config.search.keep
        wanted = len(batch) if len(self.bench.config.search.rungs) == 1 else math.ceil(len(batch) * keep)
        pool = [c for c in map(self.start, batch) if self.train(c, 0)]
        promoted = self.promote(pool, 0, wanted)
        if self.measurable and len(promoted) < wanted:
            fresh = [c for c in map(self.start, self.propose(wanted - len(promoted))) if self.train(c, 0)]
            promoted += self.promote(fresh, 0, wanted - len(promoted))
        return promoted

    def start(self, proposal: Proposal) -> Contender:
        contender = Contender(proposal, self.study.ask(proposal.candidate.spec))
        self.contenders.append(contender)
        chance = "" if proposal.probability is None else f", P(in budget) {format_percent(proposal.probability, 0)}"
        estimate = proposal.predicted
        shown = format_ms(estimate.latency_ms) if isinstance(estimate, PredictedLatency) else "unknown"
        self.note(f"trial {contender.number}: {contender.label}, predicted {shown}{chance}")
        return contender

    def train(self, contender: Contender, rung: int) -> bool:
        """Train to a rung; False if the trial failed."""
        rungs = self.bench.config.search.rungs
        try:
            contender.trained = train(
                self.bench,
                contender.proposal.candidate.spec,
                self.views,
                epochs=rungs[rung],
                total_epochs=rungs[-1],
                previous=contender.trained,
            )
        except TrialFailure as failure:
            self.close(contender, "failed", failure.message)
            return False
        accuracy = contender.trained.accuracy_validation
        contender.rungs.append(Rung(rung=rung, epochs=rungs[rung], accuracy_validation=accuracy))
        self.study.report(contender.number, epochs=rungs[rung], accuracy=accuracy)
        self.note(
            f"trial {contender.number}: {contender.label}, {format_percent(accuracy)} of the validation split "
            f"after {rungs[rung]} epochs"
        )
        return True

    def promote(self, pool: Sequence[Contender], rung: int, wanted: int) -> list[Contender]:
        """The `wanted` most accurate; past the first rung goes only what was measured inside the budget."""
        promoted: list[Contender] = []
        ranked = sorted(pool, key=lambda c: (-c.accuracy, c.proposal.candidate.multiply_adds))
        for contender in ranked:
            if len(promoted) == wanted:
                last = promoted[-1]
                self.close(
                    contender,
                    "pruned",
                    f"{format_percent(contender.accuracy)} at rung {rung}, where {last.label} had "
                    f"{format_percent(last.accuracy)} and {wanted} went on",
                )
            elif contender.schemes or self.measure(contender):
                promoted.append(contender)
        return promoted

    def measure(self, contender: Contender, *, last: bool = False) -> bool:
        """Make and measure the files of a contender's present weights; False if that turned it away. At the `last` rung
        int8 that loses too much may be trained under rounding, for which a candidate has to have come so far."""
        if not self.measurable:
            return True
        assert contender.trained is not None
        first = not contender.schemes
        try:
            source = source_of(self.bench, contender.trained)
            contender.schemes = realise(self.bench, source, self.views if last else None)
        except TrialFailure as failure:
            self.close(contender, "failed", failure.message)
            return False
        if first:
            for result in contender.schemes:
                self.learn(result.scheme.precision, contender.proposal.candidate, result.latency)
        if contender.fitting(self.budget):
            return True
        self.close(contender, "over_budget", self.why_over(contender))
        return False

    def why_over(self, contender: Contender) -> str:
        """What was measured, against the budget, in the fastest precision that was kept."""
        kept = [
            (s.latency.comparable(self.budget.percentile), s.latency, s.scheme.label)
            for s in contender.schemes
            if not s.dropped and isinstance(s.latency, MeasuredLatency)
        ]
        if not kept:
            return "no precision was kept: " + "; ".join(s.dropped for s in contender.schemes if s.dropped)
        comparable_ms, latency, precision = min(kept, key=lambda entry: entry[0])
        speed = ""
        if latency.slowdown != 1:
            slower = f"{latency.slowdown:.2f} times as slow as" if latency.slowdown > 1 else "faster than"
            speed = f" (processor {slower} for the teacher: comparable with {format_ms(comparable_ms)})"
        return (
            f"measured {self.budget.percentile} {format_ms(latency.at(self.budget.percentile))} in {precision}{speed}, "
            f"budget {format_ms(self.budget.latency_ms)}"
        )

    # -- the winner -----------------------------------------------------------------------------------------------

    def prove(self, finalists: Sequence[Contender]) -> Winner | None:
        """The most accurate finalist whose exact file passes the acceptance rule; without a device, the most accurate."""
        if not self.measurable:
            for contender in finalists:
                self.close(contender, "complete", "trained through every rung; not measured")
            chosen = max(finalists, key=lambda c: c.accuracy, default=None)
            if chosen is None or chosen.trained is None:
                return None
            return Winner(chosen.trial(), chosen.trained, None, None)
        entries = [(c, s) for c in finalists for s in c.fitting(self.budget)]
        entries.sort(key=lambda e: (-validation_accuracy(e[1]), _latency(e[1], self.budget)))
        winner: Winner | None = None
        for contender, result in entries:
            assert contender.trained is not None
            attempt = self.attempt(contender, result)
            if attempt is None:
                continue
            if attempt.met:
                self.close(contender, "complete", f"proven inside the budget in {result.scheme.label}")
                winner = Winner(contender.trial(), contender.trained, result, attempt)
                break
            self.attempts.append(attempt)
            worst = format_ms(max(attempt.bounds_ms))
            self.note(
                f"trial {contender.number}: {result.scheme.label} fails the acceptance rule ({worst})", warning=True
            )
            contender.reason = f"{result.scheme.label} fails the acceptance rule: bound {worst} in the worst session"
        for contender in finalists:
            if winner is None:
                self.close(contender, "over_budget", contender.reason or "fails the acceptance rule")
            elif contender.number != winner.trial.number:
                assert winner.scheme is not None
                best = max(map(validation_accuracy, contender.fitting(self.budget)))
                reason = (
                    f"{format_percent(best, 2)} of the validation split in its best file inside the budget, "
                    f"the winner {format_percent(validation_accuracy(winner.scheme), 2)}"
                )
                self.close(contender, "complete", contender.reason or reason)
        return winner

    def attempt(self, contender: Contender, result: SchemeResult) -> Proof | None:
        """The acceptance rule on a finalist's file; None where the sessions could not be taken, which its reason tells."""
        assert contender.trained is not None
        config = self.bench.config.profile
        try:
            source = source_of(self.bench, contender.trained)
            profile = profiled(self.bench, result.artifact, source, sessions=config.sessions)
            if profile is None:
                contender.reason = self.bench.not_measurable
                return None
            return proof(profile.sessions, self.budget, config.pause / 1000, result.artifact.sha256)
        except TrialFailure as failure:
            contender.reason = f"{result.scheme.label}: {failure.message}"
            return None

    # -- record -----------------------------------------------------------------------------------------------------

    def close(self, contender: Contender, state: State, reason: str) -> None:
        contender.state, contender.reason = state, reason
        latencies = [_latency(s, self.budget) for s in contender.schemes if isinstance(s.latency, MeasuredLatency)]
        self.study.tell(
            contender.number,
            state,
            accuracy=contender.accuracy if contender.rungs else None,
            reason=reason,
            latency_ms=min(latencies, default=None),
        )
        self.note(f"trial {contender.number}: {contender.label} {state.replace('_', ' ')}: {reason}")

    def note(self, text: str, warning: bool = False) -> None:
        self.bench.store.listener(Note(text, warning))


def validation_accuracy(result: SchemeResult) -> float:
    """Validation accuracy of a file that was run; below any other where it was not."""
    return result.verification.accuracy_validation if isinstance(result.verification, Verified) else -math.inf


def _latency(result: SchemeResult, budget: Budget) -> float:
    assert isinstance(result.latency, MeasuredLatency)
    return result.latency.comparable(budget.percentile)
