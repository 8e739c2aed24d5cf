"""The search: propose -> train -> measure -> record, until a student is proven and nothing untried is likely to beat
it.

A bracket of successive halving trains a batch of candidates to the first rung. In order of validation accuracy each is
made into real files and measured before it may go on; a measurement outside the limits rejects it, and every
measurement refits the latency model that proposes replacements. What trained on to the last rung and keeps all limits
is a finalist, the best of them the incumbent. While some untried candidate beats them with more than `MIN_PROBABILITY`,
by the latency model and by the quality model that all finished rungs have taught, another bracket begins. Then the best
finalist's exact file must be proven; where it is not, the next is taken, then a new bracket, as often as was fixed
before the first proof.

Every decision reads the validation split and what the lab gives again for the same question, so a search that was
killed takes the same way.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgedistill.base.errors import TrialFailure
from edgedistill.base.units import format_percent
from edgedistill.devices.latency.model import Row
from edgedistill.documents.artifacts import Rung, Trial
from edgedistill.documents.measurements import PredictedLatency, Proof
from edgedistill.documents.results import PredictedPoint
from edgedistill.documents.specs import Goal, Objective, Precision
from edgedistill.networks.space import Candidate
from edgedistill.selection.expectations import Prospect
from edgedistill.selection.goal import validation_quality
from edgedistill.selection.lab import Training, figures_of
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.pareto import frontier
from edgedistill.selection.propose import (
    MIN_PROBABILITY,
    Proposal,
    assess,
    expected_best,
    fastest,
    promising,
    propose,
    with_a_chance,
)
from edgedistill.selection.proving import Proving
from edgedistill.selection.quality import Curve, QualityModel
from edgedistill.selection.ranking import ranked
from edgedistill.selection.record import Record
from edgedistill.selection.running_trial import Finalist, RunningTrial, Winner
from edgedistill.selection.study import Study
from edgedistill.selection.warm_start import Known


@dataclass(frozen=True)
class Settings:
    """How a search spends: `probes` measured before the first proposal, `candidates` a bracket, `rungs` in epochs,
    `keep` the share that goes on to the next. At most `trials` candidates are begun, and none after `seconds` (None: no
    limit)."""

    probes: int
    candidates: int
    rungs: tuple[int, ...]
    keep: float
    trials: int
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What a search ends with on one target. `attempts` are the proofs that failed before the winner's, `stopped` is
    why it went no further, `predicted` what it expects of students that were not trained."""

    winner: Winner | None
    trials: tuple[Trial, ...]
    attempts: tuple[Proof, ...]
    probes: int
    stopped: str
    predicted: tuple[PredictedPoint, ...] = ()


@dataclass(eq=False)
class Search:
    """One search, for one target or for several, of which one student is to keep the limits of all. The goals of
    `targets` have one objective. Students are trained by the first one's lab, for all of them. `known` is what was
    measured and trained before."""

    targets: Sequence[OnTarget]
    settings: Settings
    candidates: Sequence[Candidate]
    study: Study
    known: Known = field(default_factory=Known)
    running_trials: list[RunningTrial] = field(default_factory=list)
    tried_unlikely: bool = False
    stopped: str = ""
    began: float = field(default_factory=time.monotonic)

    def run(self) -> dict[str, Outcome]:
        """Search until a student is proven on every target that nothing untried is likely to beat, or nothing is left
        to try. The outcome of each target."""
        self.remember()
        for target in self.targets:
            target.probe(self.candidates, self.settings.probes)
        winners: dict[str, Winner] = {}
        while not winners and not self.proving.exhausted:
            if pruned := self.reopened():
                self.halve(pruned)
            elif batch := self.next_batch():
                self.halve(self.first_rung(batch))
            else:
                break
            if not self.worth_another():
                winners = self.proving.prove()
        winners = winners or self.proving.prove()
        if self.proving.exhausted:
            self.stopped = "as many proofs failed as were allowed beforehand"
        if not winners and self.measurable and not any(c.schemes for c in self.running_trials):
            self.record.note("every candidate failed before it could be measured", warning=True)
        by_number = sorted(self.running_trials, key=lambda c: c.number)
        for running_trial in by_number:
            self.record.tell(running_trial)
        quality_model = self.quality_model()
        return {
            target.name: Outcome(
                winners.get(target.name),
                tuple(running_trial.trial(target.name) for running_trial in by_number),
                tuple(target.attempts),
                target.probes,
                self.stopped,
                self.expected(target, quality_model),
            )
            for target in self.targets
        }

    @property
    def record(self) -> Record:
        """What is said and written down."""
        return Record(self.targets, self.study)

    @property
    def proving(self) -> Proving:
        """The finalists so far and their proof."""
        return Proving(self.running_trials, self.targets, self.record)

    # -- what is known so far -------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Take over what is known from before."""
        by_name = {target.name: target for target in self.targets}
        for file in self.known.files:
            row = Row(file.structure, file.latency_ms, file.multiplying)
            by_name[file.target].measurements.add(row, file.precision, file.bytes, file.peak_memory_bytes)
        for source in self.known.sources:
            self.record.note(source)

    @property
    def measurable(self) -> list[OnTarget]:
        """The targets that can be measured, as far as is known by now."""
        return [target for target in self.targets if target.lab.measurable]

    @property
    def goals(self) -> dict[str, Goal]:
        """What is asked for, by target."""
        return {target.name: target.goal for target in self.targets}

    @property
    def objective(self) -> Objective:
        return self.targets[0].goal.objective

    def quality_model(self) -> QualityModel | None:
        """What the finished rungs tell of students not yet trained; None while they are too few."""
        fresh = {candidate.spec: candidate for candidate in self.fresh()}
        curves = [Curve(fresh[known.spec], known.quality) for known in self.known.curves if known.spec in fresh]
        curves += [
            Curve(c.proposal.candidate, {rung.epochs: rung.quality_validation for rung in c.rungs})
            for c in self.running_trials
            if c.rungs
        ]
        return QualityModel.fit(curves, self.candidates, self.settings.rungs[-1])

    @property
    def finalists(self) -> list[Finalist]:
        """The trained students that keep all limits, the best first."""
        return self.proving.finalists()

    def prospects(self) -> list[Prospect]:
        """What a candidate's files must keep to become the incumbent, and what is expected of them. Where the fastest
        is wanted, that is the incumbent's share of the budget, on every target."""
        share = 1.0
        if self.objective is Objective.LATENCY and (finalists := self.finalists) and finalists[0].files:
            share = finalists[0].share(self.goals)
        return [target.prospect(share) for target in self.targets]

    def quality_aim(self) -> float | None:
        """The validation quality that a candidate's file must end above: that of the most accurate finalist where quality
        is wanted, else the least that is asked for; None while any will do."""
        least = self.targets[0].goal.min_quality
        if self.objective is Objective.QUALITY and (finalists := self.finalists):
            return max(max(f.quality for f in finalists), least or 0.0)
        return least

    def lost_by(self, proposal: Proposal) -> float:
        """By how much a candidate's file is expected to be less accurate than its torch model: the median of those in
        the precision in which it should do best, on the target where that is most."""
        expected = [p.precision for p in proposal.predicted.values() if isinstance(p, PredictedLatency)]
        return max((self.lost_in(precision) for precision in expected), default=0.0)

    def lost_in(self, precision: Precision) -> float:
        """By how much files in a precision are less accurate than their torch models, in the median; 0 while there is
        none."""
        losses = [
            running_trial.quality - quality
            for running_trial in self.running_trials
            if running_trial.trained_out
            for schemes in running_trial.schemes.values()
            for result in schemes
            if result.scheme.precision is precision and math.isfinite(quality := validation_quality(result))
        ]
        return statistics.median(losses) if losses else 0.0

    def expected(self, target: OnTarget, quality_model: QualityModel | None) -> tuple[PredictedPoint, ...]:
        """The untried candidates that would be on the target's frontier if latency and quality models were right."""
        fresh = self.fresh()
        if quality_model is None or not fresh:
            return ()
        prospect = target.prospect()
        latencies = [assess(c, [prospect]).predicted[target.name] for c in fresh]
        points = [
            PredictedPoint(
                spec=candidate.spec,
                latency=latency,
                quality_validation=middle,
                quality_validation_low=low,
                quality_validation_high=high,
            )
            for candidate, latency, (low, middle, high) in zip(
                fresh, latencies, quality_model.intervals(fresh), strict=True
            )
            if isinstance(latency, PredictedLatency)
        ]
        return frontier(points, latency_ms=lambda p: p.latency.latency_ms, quality=lambda p: p.quality_validation)

    # -- proposals ------------------------------------------------------------------------------------------------

    @property
    def trials_left(self) -> int:
        """How many candidates may still be begun."""
        return 0 if self.late else self.settings.trials - len(self.running_trials)

    @property
    def late(self) -> bool:
        """Whether the time is over in which candidates may be begun; for the first batch there always is some."""
        seconds = self.settings.seconds
        return seconds is not None and bool(self.running_trials) and time.monotonic() - self.began > seconds

    def fresh(self) -> list[Candidate]:
        """The candidates that were not begun."""
        tried = {c.proposal.candidate.spec for c in self.running_trials}
        return [c for c in self.candidates if c.spec not in tried]

    def propose(self, count: int) -> tuple[Proposal, ...]:
        """The next candidates: while nothing is known of quality, by size; then by the chance to beat the incumbent."""
        fresh, prospects = self.fresh(), self.prospects()
        quality_model, quality = self.quality_model(), self.quality_aim()
        if quality_model is None:
            return propose(fresh, prospects, count=count)
        if quality is None:
            quality = expected_best(fresh, prospects, quality_model)
        return promising(fresh, prospects, quality_model, quality, self.lost_by, count=count)

    def next_batch(self) -> tuple[Proposal, ...]:
        """The next candidates to train. Where none has a chance, once those that come nearest: what is asked for is
        called impossible on measurements, not on predictions. Those are the fastest ones; where some would keep the
        limits and lack quality alone, the largest that would."""
        wanted = min(self.settings.candidates, self.trials_left)
        if wanted <= 0:
            self.stopped = self._why_no_more()
            return ()
        if batch := self.propose(wanted):
            return batch
        self.stopped = "no untried candidate is likely enough to do better"
        if self.finalists or self.tried_unlikely:
            return ()
        self.tried_unlikely = True
        count = max(1, wanted // 2)
        if inside := propose(self.fresh(), self.prospects(), count=count):
            self.record.note(
                "no candidate is predicted to be accurate enough: trying the largest that may fit", warning=True
            )
            return inside
        self.record.note("no candidate is predicted to fit: trying the fastest ones", warning=True)
        fresh = self.fresh()
        likely = fastest(self.candidates, self.prospects(), count=count)
        return tuple(p for p in likely if p.candidate in fresh)

    def _why_no_more(self) -> str:
        return "its time was over" if self.late else "as many candidates were tried as allowed"

    def worth_another(self) -> bool:
        """Whether a bracket is worth its cost: there is an incumbent, and an untried candidate likely enough to beat
        it."""
        if not self.finalists:
            return False
        if self.trials_left <= 0:
            self.stopped = self._why_no_more()
            return False
        if self.propose(1):
            return True
        self.stopped = "no untried candidate is likely enough to do better"
        return False

    # -- one bracket ----------------------------------------------------------------------------------------------

    def halve(self, alive: Sequence[RunningTrial]) -> None:
        """Successive halving: from the rung at which each stands to the last one, or rejected on the way."""
        last = len(self.settings.rungs) - 1
        for number in range(1, last + 1):
            beyond = [running_trial for running_trial in alive if len(running_trial.rungs) > number]
            alive = beyond + self.train(
                [running_trial for running_trial in alive if len(running_trial.rungs) == number], number
            )
            if number < last:
                alive = self.promote(alive, math.ceil(len(alive) * self.settings.keep))
        for running_trial in alive:
            running_trial.trained_out = True
            self.measure(running_trial)
            # One that is rejected may be inside after all, once a proof has shown how sessions differ.
            if running_trial.state != "failed":
                self.cross_validate(running_trial)

    def first_rung(self, batch: Sequence[Proposal]) -> list[RunningTrial]:
        """Train the batch to the first rung and promote the most promising that measure inside the limits; those rejected
        are replaced, once, by what the refitted latency model proposes."""
        wanted = len(batch) if len(self.settings.rungs) == 1 else math.ceil(len(batch) * self.settings.keep)
        promoted = self.promote(self.train([self.start(p) for p in batch], 0), wanted)
        missing = min(wanted - len(promoted), self.trials_left)
        if self.measurable and missing > 0:
            fresh = self.train([self.start(p) for p in self.propose(missing)], 0)
            promoted += self.promote(fresh, missing)
        return promoted

    def reopened(self) -> list[RunningTrial]:
        """Students that were pruned beside finalists of which no proof is met, and that may be inside what can be proven by
        now: the most promising of them, measured. Empty while there is a finalist, or nothing failed."""
        if self.finalists or not any(target.attempts for target in self.targets):
            return []
        pruned = {c.proposal.candidate.spec: c for c in self.running_trials if c.state == "pruned"}
        able = with_a_chance([c.proposal.candidate for c in pruned.values()], self.prospects())
        pool = [pruned[proposal.candidate.spec] for proposal in able]
        for running_trial in pool:
            running_trial.state, running_trial.reason = "complete", ""
        return self.promote(pool, math.ceil(self.settings.candidates * self.settings.keep))

    def start(self, proposal: Proposal) -> RunningTrial:
        running_trial = RunningTrial(proposal, self.study.ask(proposal.candidate.spec))
        self.running_trials.append(running_trial)
        self.record.note(f"trial {running_trial.number}: {running_trial.label}, {self._expected_of(proposal)}")
        return running_trial

    def _expected_of(self, proposal: Proposal) -> str:
        """What is predicted of a candidate, by target. A prediction that is not calibrated has its interval beside it and no
        probability. It is a guess where the device cannot be measured."""
        targets = {target.name: target for target in self.targets}
        calibrated: list[bool] = []
        told: dict[str, str] = {}
        for name, latency in proposal.predicted.items():
            if not isinstance(latency, PredictedLatency):
                told[name] = "latency unknown"
                continue
            calibrated.append(latency.calibrated)
            budget = targets[name].goal.budget
            told[name] = f"predicted {budget.in_its_unit(latency.latency_ms)}"
            if not latency.calibrated:
                word = "predicted" if targets[name].lab.measurable else "a guess of"
                interval = f"{budget.figure(latency.low_ms)} to {budget.figure(latency.high_ms)}"
                told[name] = f"{word} {budget.in_its_unit(latency.latency_ms)} ({interval})"
        text = self.record.by_target(told)
        if proposal.probability is None or not calibrated or not all(calibrated):
            return text
        return f"{text}, P {format_percent(proposal.probability, 0)}"

    def train(self, running_trials: Sequence[RunningTrial], number: int) -> list[RunningTrial]:
        """Train to a rung; those whose training did not fail."""
        wanted = [Training(c.proposal.candidate.spec, number, c.trained) for c in running_trials]
        alive = []
        for running_trial, trained in zip(running_trials, self.targets[0].lab.train(wanted), strict=True):
            if isinstance(trained, TrialFailure):
                self.record.close(running_trial, "failed", trained.message)
                continue
            running_trial.trained = trained
            quality, epochs = trained.quality_validation, self.settings.rungs[number]
            running_trial.rungs.append(Rung(rung=number, epochs=epochs, quality_validation=quality))
            self.study.report(running_trial.number, epochs=epochs, quality=quality)
            self.record.note(
                f"trial {running_trial.number}: {running_trial.label}, {format_percent(quality)} of the validation split "
                f"after {epochs} epochs"
            )
            alive.append(running_trial)
        return alive

    def promote(self, pool: Sequence[RunningTrial], wanted: int) -> list[RunningTrial]:
        """The `wanted` first in the order of `ranked`; past the first rung goes only what was measured inside the limits
        and, once there is an incumbent, what may still beat it."""
        quality_model, bar = self.quality_model(), self.quality_aim() if self.finalists else None
        promoted: list[RunningTrial] = []
        for running_trial in ranked(pool, quality_model, self.objective):
            if len(promoted) == wanted:
                self.record.close(running_trial, "pruned", self._why_pruned(running_trial, promoted))
            elif bar is not None and quality_model and self._unlikely(running_trial, quality_model, bar):
                self.record.close(
                    running_trial,
                    "pruned",
                    f"{_so_far(running_trial)}: unlikely to end at the "
                    f"{format_percent(bar, 2)} that it would have to "
                    f"{'beat' if self.objective is Objective.QUALITY else 'reach'}",
                )
            elif self.keeps_limits(running_trial) if running_trial.schemes else self.measure(running_trial):
                promoted.append(running_trial)
        return promoted

    def _why_pruned(self, running_trial: RunningTrial, promoted: Sequence[RunningTrial]) -> str:
        own = _so_far(running_trial)
        if self.objective is Objective.LATENCY:
            return f"{own}: the most accurate and the smallest {len(promoted)} went on"
        return f"{own}: {len(promoted)} others promised more, {promoted[-1].label} the least of them"

    def _unlikely(self, running_trial: RunningTrial, quality_model: QualityModel, quality: float) -> bool:
        """Whether the trial's file, its own rungs seen, will hardly end above `quality`."""
        wanted = quality + self.lost_by(running_trial.proposal)
        return float(quality_model.reach([running_trial.proposal.candidate], [wanted])[0]) < MIN_PROBABILITY

    def measure(self, running_trial: RunningTrial) -> bool:
        """Make and measure the files of a trial's present weights, target by target; False if one rejected it. A
        device that is lost meanwhile rejects no student."""
        assert running_trial.trained is not None
        for target in self.measurable:
            first = target.name not in running_trial.schemes
            try:
                schemes = target.lab.realise(running_trial.trained, last=running_trial.trained_out)
            except TrialFailure as failure:
                self.record.close(running_trial, "failed", self.record.on(target, failure.message))
                return False
            running_trial.schemes[target.name] = schemes
            if first:
                for figures in figures_of(schemes):
                    target.learn(running_trial.proposal.candidate, figures)
            if not self._inside(running_trial, target):
                return False
        return True

    def cross_validate(self, running_trial: RunningTrial) -> None:
        """Where finalists are compared by cross-validation: the trial's student, whether or not a device is attached."""
        assert running_trial.trained is not None
        try:
            crossed = self.targets[0].lab.cross_validate(running_trial.trained)
        except TrialFailure as failure:
            self.record.close(running_trial, "failed", failure.message)
            return
        if crossed is not None:
            running_trial.keep_crossed(crossed)

    def keeps_limits(self, running_trial: RunningTrial) -> bool:
        """Whether the measured files keep the limits as they are by now; a trial without such files is rejected."""
        return all(self._inside(running_trial, target) for target in self.measurable)

    def _inside(self, running_trial: RunningTrial, target: OnTarget) -> bool:
        # A device that was lost meanwhile rejects nothing.
        if not target.lab.measurable or running_trial.fitting(target.name, target.goal):
            return True
        why = running_trial.why_not_fitting(target.name, target.goal)
        self.record.close(running_trial, "over_budget", self.record.on(target, why))
        return False


def _so_far(running_trial: RunningTrial) -> str:
    """`90.0% at rung 1`."""
    return f"{format_percent(running_trial.quality)} at rung {len(running_trial.rungs) - 1}"
