"""The search: propose -> train -> measure -> record, until a student is proven and nothing untried is likely to beat it.

A bracket of successive halving trains a batch of candidates to the first rung. In order of validation accuracy each is made
into real files and measured before it may go on; a measurement outside the limits turns it away, and every measurement
refits the latency model that proposes replacements. What trained on to the last rung and keeps all limits is a finalist,
the best of them the incumbent. While some untried candidate beats it with more than `MIN_PROBABILITY`, by the latency model
and by the quality model that all finished rungs have taught, another bracket begins. Then the best finalist's exact file
must pass the acceptance rule; where it does not, the next is taken, then a new bracket.

Every decision reads the validation split and what the lab gives again for the same question, so a search that was killed
takes the same way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgedistill.artifacts import PredictedLatency, Proof, Rung, SchemeResult, Trial
from edgedistill.errors import TrialFailure
from edgedistill.latency.model import choose_probes
from edgedistill.results import PredictedPoint
from edgedistill.selection.contender import Contender, State, Winner
from edgedistill.selection.expect import Aim, Expectations, Measurements
from edgedistill.selection.goal import comparable_ms, rank, validation_accuracy
from edgedistill.selection.known import Known
from edgedistill.selection.lab import Figures, Lab, Training
from edgedistill.selection.pareto import frontier
from edgedistill.selection.propose import (
    MIN_PROBABILITY,
    Proposal,
    assess,
    expected_best,
    fastest,
    promising,
    propose,
)
from edgedistill.selection.quality import Curve, QualityModel
from edgedistill.selection.study import Study
from edgedistill.specs import Goal, Objective
from edgedistill.students.space import Candidate
from edgedistill.units import format_ms, format_percent


@dataclass(frozen=True)
class Settings:
    """How a search spends: `probes` measured before the first proposal, `candidates` a bracket, `rungs` in epochs, `keep`
    the share that goes on to the next. At most `trials` candidates are begun, and none after `seconds` (None: no limit)."""

    probes: int
    candidates: int
    rungs: tuple[int, ...]
    keep: float
    trials: int
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What a search ends with. `attempts` are the proofs that failed before the winner's, `stopped` is why it went no
    further, `predicted` what it expects of those that nobody trained."""

    winner: Winner | None
    trials: tuple[Trial, ...]
    attempts: tuple[Proof, ...]
    probes: int
    stopped: str
    predicted: tuple[PredictedPoint, ...] = ()


@dataclass(eq=False)
class Search:
    """One search. `prior` are latency models for a device that is not attached, `known` is what others measured and trained
    before. Candidates above `plausible_multiply_adds`
    are too far outside the budget to be worth a probe."""

    lab: Lab
    goal: Goal
    settings: Settings
    candidates: Sequence[Candidate]
    study: Study
    plausible_multiply_adds: float = math.inf
    prior: Expectations = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    contenders: list[Contender] = field(default_factory=list)
    measurements: Measurements = field(default_factory=Measurements)
    attempts: list[Proof] = field(default_factory=list)
    probes: int = 0
    tried_fastest: bool = False
    stopped: str = ""
    began: float = field(default_factory=time.monotonic)

    def run(self) -> Outcome:
        """Search until a student is proven that nothing untried is likely to beat, or nothing is left to try."""
        self.remember()
        self.probe()
        winner: Winner | None = None
        while winner is None and (batch := self.next_batch()):
            self.halve(batch)
            if not self.worth_another():
                winner = self.prove()
        if winner is None:
            winner = self.prove()
        if winner is None and self.lab.measurable and not any(c.schemes for c in self.contenders):
            self.lab.note("every candidate failed before it could be measured", warning=True)
        trials = tuple(c.trial() for c in sorted(self.contenders, key=lambda c: c.number))
        return Outcome(winner, trials, tuple(self.attempts), self.probes, self.stopped, self.expected())

    # -- what is known so far -------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Take over what is known from before."""
        for row in self.known.files:
            self.measurements.add(row.precision, row.structure, row.latency_ms, row.bytes, row.peak_memory_bytes)
        for source in self.known.sources:
            self.lab.note(source)

    def probe(self) -> None:
        """Measure a few candidates with random weights, chosen to tell most about all the others near the budget; as many as
        are not known already."""
        if not self.lab.measurable:
            return
        wanted = self.settings.probes - self.measurements.fewest
        if wanted <= 0:
            return
        by_work = sorted(self.candidates, key=lambda c: (c.multiply_adds, c.spec.label))
        near = sum(c.multiply_adds <= self.plausible_multiply_adds for c in by_work)
        pool = by_work[: max(near, 2 * wanted)]
        for index in choose_probes([c.structure for c in pool], wanted):
            for figures in self.lab.probe(pool[index]):
                self.learn(pool[index], figures)
            self.probes += 1

    def learn(self, candidate: Candidate, figures: Figures) -> None:
        """A measurement becomes a row of the models."""
        latency_ms = figures.latency.comparable(self.goal.budget.percentile)
        size, memory = figures.bytes, figures.peak_memory_bytes
        self.measurements.add(figures.precision, candidate.structure, latency_ms, size, memory)

    def models(self) -> Expectations:
        """What is expected of files in each precision measured so far; what published figures give where nothing can be
        measured."""
        return self.measurements.expectations() if self.lab.measurable else self.prior

    def quality(self) -> QualityModel | None:
        """What the finished rungs tell of students not yet trained; None while they are too few."""
        begun = {c.proposal.candidate.spec for c in self.contenders}
        by_spec = {candidate.spec: candidate for candidate in self.candidates}
        curves = [
            Curve(by_spec[curve.spec], curve.accuracy)
            for curve in self.known.curves
            if curve.spec in by_spec and curve.spec not in begun
        ]
        curves += [
            Curve(c.proposal.candidate, {rung.epochs: rung.accuracy_validation for rung in c.rungs})
            for c in self.contenders
            if c.rungs
        ]
        return QualityModel.fit(curves, self.candidates, self.settings.rungs[-1])

    @property
    def finalists(self) -> list[tuple[Contender, SchemeResult | None]]:
        """The trained students and their files that keep all limits, the best first; without a device, the students."""
        done = [c for c in self.contenders if c.trained_out and c.trained is not None]
        if not self.lab.measurable:
            return [(c, None) for c in sorted(done, key=lambda c: -c.accuracy)]
        entries = [(c, result) for c in done for result in c.fitting(self.goal)]
        return [*sorted(entries, key=lambda entry: rank(entry[1], self.goal))]

    def aim(self) -> Aim:
        """What a candidate must reach to become the incumbent: where there is none, the goal's own limits."""
        limit_ms, accuracy = self.goal.budget.latency_ms, self.goal.min_accuracy
        if self.finalists:
            contender, result = self.finalists[0]
            if self.goal.objective is Objective.ACCURACY:
                accuracy = max(contender.accuracy, accuracy or 0.0)
            elif result is not None:
                limit_ms = min(limit_ms, comparable_ms(result, self.goal))
        return Aim(
            limit_ms,
            self.goal.budget.percentile,
            accuracy,
            max_bytes=self.goal.max_bytes,
            max_memory_bytes=self.goal.max_memory_bytes,
        )

    def expected(self) -> tuple[PredictedPoint, ...]:
        """The untried candidates that would be on the frontier if latency and quality models were right."""
        quality, models = self.quality(), self.models()
        tried = {c.proposal.candidate.spec for c in self.contenders}
        fresh = [c for c in self.candidates if c.spec not in tried]
        if quality is None or not models or not fresh:
            return ()
        proposals = [assess(c, models, self.aim(), self.lab.device) for c in fresh]
        points = [
            PredictedPoint(
                spec=proposal.candidate.spec,
                latency=proposal.predicted,
                accuracy_validation=middle,
                accuracy_validation_low=low,
                accuracy_validation_high=high,
            )
            for proposal, (low, middle, high) in zip(proposals, quality.intervals(fresh), strict=True)
            if isinstance(proposal.predicted, PredictedLatency)
        ]
        return frontier(points, latency_ms=lambda p: p.latency.latency_ms, accuracy=lambda p: p.accuracy_validation)

    # -- proposals ------------------------------------------------------------------------------------------------

    @property
    def trials_left(self) -> int:
        """How many candidates may still be begun."""
        late = self.settings.seconds is not None and time.monotonic() - self.began > self.settings.seconds
        return 0 if late and self.contenders else self.settings.trials - len(self.contenders)

    def propose(self, count: int) -> tuple[Proposal, ...]:
        """The next candidates: while nothing is known of quality, by size; then by the chance to beat the incumbent."""
        tried = {c.proposal.candidate.spec for c in self.contenders}
        fresh = [c for c in self.candidates if c.spec not in tried]
        models, aim, quality = self.models(), self.aim(), self.quality()
        if quality is None or (aim.accuracy is None and not fresh):
            return propose(fresh, models, aim, device=self.lab.device, count=count)
        if aim.accuracy is None:
            aim = replace(aim, accuracy=expected_best(fresh, models, quality, aim, self.lab.device))
        return promising(fresh, models, quality, aim, device=self.lab.device, count=count)

    def next_batch(self) -> tuple[Proposal, ...]:
        """The next candidates to train. Where none has a chance, the fastest ones, once: a budget is called impossible on
        measurements, not on predictions."""
        wanted = min(self.settings.candidates, self.trials_left)
        if wanted <= 0:
            self.stopped = "as many candidates were tried as allowed"
            return ()
        batch = self.propose(wanted)
        if batch:
            return batch
        self.stopped = "no untried candidate is likely enough to do better"
        if self.finalists or self.tried_fastest:
            return ()
        self.tried_fastest = True
        self.lab.note("no candidate is predicted to fit the budget: trying the fastest ones", warning=True)
        tried = {c.proposal.candidate.spec for c in self.contenders}
        likely = fastest(self.candidates, self.models(), self.aim(), device=self.lab.device, count=max(1, wanted // 2))
        return tuple(p for p in likely if p.candidate.spec not in tried)

    def worth_another(self) -> bool:
        """Whether a bracket is worth its cost: there is an incumbent, and an untried candidate likely enough to beat it."""
        if not self.finalists:
            return False
        if self.trials_left <= 0:
            self.stopped = "as many candidates were tried as allowed"
            return False
        if self.propose(1):
            return True
        self.stopped = "no untried candidate is likely enough to do better"
        return False

    # -- one bracket ----------------------------------------------------------------------------------------------

    def halve(self, batch: Sequence[Proposal]) -> None:
        """Successive halving: the batch to the last rung, or turned away on the way."""
        last = len(self.settings.rungs) - 1
        alive = self.first_rung(batch)
        for number in range(1, last + 1):
            alive = self.train(alive, number)
            if number < last:
                alive = self.promote(alive, number, math.ceil(len(alive) * self.settings.keep))
        for contender in alive:
            contender.trained_out = True
            self.measure(contender)

    def first_rung(self, batch: Sequence[Proposal]) -> list[Contender]:
        """Train the batch to the first rung and promote the most accurate that measure inside the limits; those turned
        away are replaced, once, by what the refitted latency model proposes."""
        wanted = len(batch) if len(self.settings.rungs) == 1 else math.ceil(len(batch) * self.settings.keep)
        promoted = self.promote(self.train([self.start(p) for p in batch], 0), 0, wanted)
        missing = min(wanted - len(promoted), self.trials_left)
        if self.lab.measurable and missing > 0:
            fresh = self.train([self.start(p) for p in self.propose(missing)], 0)
            promoted += self.promote(fresh, 0, missing)
        return promoted

    def start(self, proposal: Proposal) -> Contender:
        contender = Contender(proposal, self.study.ask(proposal.candidate.spec))
        self.contenders.append(contender)
        chance = "" if proposal.probability is None else f", P {format_percent(proposal.probability, 0)}"
        estimate = proposal.predicted
        shown = format_ms(estimate.latency_ms) if isinstance(estimate, PredictedLatency) else "unknown"
        self.lab.note(f"trial {contender.number}: {contender.label}, predicted {shown}{chance}")
        return contender

    def train(self, contenders: Sequence[Contender], number: int) -> list[Contender]:
        """Train to a rung; those whose training did not fail."""
        wanted = [Training(c.proposal.candidate.spec, number, c.trained) for c in contenders]
        alive = []
        for contender, trained in zip(contenders, self.lab.train(wanted), strict=True):
            if isinstance(trained, TrialFailure):
                self.close(contender, "failed", trained.message)
                continue
            contender.trained = trained
            accuracy, epochs = trained.accuracy_validation, self.settings.rungs[number]
            contender.rungs.append(Rung(rung=number, epochs=epochs, accuracy_validation=accuracy))
            self.study.report(contender.number, epochs=epochs, accuracy=accuracy)
            self.lab.note(
                f"trial {contender.number}: {contender.label}, {format_percent(accuracy)} of the validation split "
                f"after {epochs} epochs"
            )
            alive.append(contender)
        return alive

    def promote(self, pool: Sequence[Contender], number: int, wanted: int) -> list[Contender]:
        """The `wanted` best of a rung (see `ranked`); past the first rung goes only what was measured inside the limits and,
        once there is an incumbent, what may still beat it."""
        quality, bar = self.quality(), self.aim().accuracy if self.finalists else None
        promoted: list[Contender] = []
        for contender in self.ranked(pool):
            if len(promoted) == wanted:
                self.close(contender, "pruned", self._why_pruned(contender, promoted, number))
            elif bar is not None and quality and self._unlikely(contender, quality, bar):
                self.close(
                    contender,
                    "pruned",
                    f"{format_percent(contender.accuracy)} at rung {number}: unlikely to end at the "
                    f"{format_percent(bar, 2)} that it would have to beat",
                )
            elif contender.schemes or self.measure(contender):
                promoted.append(contender)
        return promoted

    def _by_promise(self, pool: Sequence[Contender]) -> list[Contender]:
        quality = self.quality()
        accurate = sorted(pool, key=lambda c: (-c.accuracy, c.proposal.candidate.multiply_adds))
        if quality is not None and accurate:
            expected, _ = quality.predict([c.proposal.candidate for c in accurate])
            return [accurate[place] for place in np.argsort(-expected, kind="stable")]
        turn: dict[str, int] = {}
        places = []
        for contender in accurate:
            family = contender.proposal.candidate.spec.family
            turn[family] = turn.get(family, 0) + 1
            places.append(turn[family])
        return [accurate[number] for number in sorted(range(len(accurate)), key=lambda number: places[number])]

    def _why_pruned(self, contender: Contender, promoted: Sequence[Contender], number: int) -> str:
        own = f"{format_percent(contender.accuracy)} at rung {number}"
        if self.goal.objective is Objective.LATENCY:
            return f"{own}: the most accurate and the smallest {len(promoted)} went on"
        return f"{own}: {len(promoted)} others promised more, {promoted[-1].label} the least of them"

    def ranked(self, pool: Sequence[Contender]) -> list[Contender]:
        """Contenders at one rung in the order in which they go on: those that the quality model expects to end best. While
        there is none, families in turn and the most accurate of each, since an early rung tells little between families:
        some learn late. Where the fastest is wanted, the best and the smallest in turn: the ones tell whether the accuracy
        can be had, the others how little does."""
        accurate = self._by_promise(pool)
        if self.goal.objective is Objective.ACCURACY:
            return accurate
        small = sorted(pool, key=lambda c: (c.proposal.candidate.multiply_adds, -c.accuracy))
        return list(dict.fromkeys(c for pair in zip(accurate, small, strict=True) for c in pair))

    def _unlikely(self, contender: Contender, quality: QualityModel, accuracy: float) -> bool:
        """Whether the contender, its own rungs seen, will hardly end above `accuracy`."""
        return float(quality.reach([contender.proposal.candidate], accuracy)[0]) < MIN_PROBABILITY

    def measure(self, contender: Contender) -> bool:
        """Make and measure the files of a contender's present weights; False if that turned it away."""
        if not self.lab.measurable:
            return True
        assert contender.trained is not None
        first = not contender.schemes
        try:
            contender.schemes = self.lab.realise(contender.trained, last=contender.trained_out)
        except TrialFailure as failure:
            self.close(contender, "failed", failure.message)
            contender.trained_out = False
            return False
        if first:
            for figures in figures_of(contender.schemes):
                self.learn(contender.proposal.candidate, figures)
        if contender.fitting(self.goal):
            return True
        self.close(contender, "over_budget", contender.why_not_fitting(self.goal))
        return False

    # -- the winner -----------------------------------------------------------------------------------------------

    def prove(self) -> Winner | None:
        """The best finalist whose exact file passes the acceptance rule; without a device, the best one."""
        for contender, result in self.finalists:
            assert contender.trained is not None
            if result is None:
                self.close(contender, "complete", "trained through every rung; not measured")
                self._close_others(contender, result)
                return Winner(contender.trial(), contender.trained, None, None)
            proof = self.attempt(contender, result)
            if proof is not None and proof.met:
                self.close(contender, "complete", f"proven inside the budget in {result.scheme.label}")
                self._close_others(contender, result)
                return Winner(contender.trial(), contender.trained, result, proof)
        return None

    def attempt(self, contender: Contender, result: SchemeResult) -> Proof | None:
        """The acceptance rule on a finalist's file. Where it fails, or its sessions cannot be taken, the file is out."""
        assert contender.trained is not None
        try:
            proof = self.lab.prove(contender.trained, result, self.goal.budget)
        except TrialFailure as failure:
            contender.failed_proofs.add(result.artifact.sha256)
            contender.reason = f"{result.scheme.label}: {failure.message}"
        else:
            if proof.met:
                return proof
            contender.failed_proofs.add(result.artifact.sha256)
            self.attempts.append(proof)
            worst = format_ms(max(proof.bounds_ms))
            contender.reason = f"{result.scheme.label} fails the acceptance rule: bound {worst} in the worst session"
        self.lab.note(f"trial {contender.number}: {contender.reason}", warning=True)
        if not contender.fitting(self.goal):
            self.close(contender, "over_budget", contender.reason)
        return None

    def _close_others(self, winner: Contender, chosen: SchemeResult | None) -> None:
        """Say of each finalist what it lacked beside the winner."""
        for contender in (c for c in self.contenders if c.trained_out and c is not winner):
            if chosen is None:
                beside = f"the winner {format_percent(winner.accuracy)}"
                self.close(
                    contender, "complete", f"{format_percent(contender.accuracy)} of the validation split, {beside}"
                )
            elif fitting := contender.fitting(self.goal):
                best = min(fitting, key=lambda result: rank(result, self.goal))
                self.close(
                    contender, "complete", f"{self._figures(best)} in its best file, the winner {self._figures(chosen)}"
                )

    def _figures(self, result: SchemeResult) -> str:
        """`98.30% of the validation split in 0.0512 ms`."""
        accuracy = format_percent(validation_accuracy(result), 2)
        return f"{accuracy} of the validation split in {format_ms(comparable_ms(result, self.goal))}"

    # -- record ---------------------------------------------------------------------------------------------------

    def close(self, contender: Contender, state: State, reason: str) -> None:
        """Finish a trial with what became of it."""
        contender.state, contender.reason = state, reason
        latencies = [ms for ms in (comparable_ms(s, self.goal) for s in contender.schemes) if math.isfinite(ms)]
        self.study.tell(
            contender.number,
            state,
            accuracy=contender.accuracy if contender.rungs else None,
            reason=reason,
            latency_ms=min(latencies, default=None),
        )
        self.lab.note(f"trial {contender.number}: {contender.label} {state.replace('_', ' ')}: {reason}")


def figures_of(schemes: Sequence[SchemeResult]) -> list[Figures]:
    """What was measured of a student's files."""
    return [
        Figures(s.scheme.precision, s.latency, s.artifact.bytes, s.peak_memory_bytes)
        for s in schemes
        if s.latency.kind == "measured"
    ]
