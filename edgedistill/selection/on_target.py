"""One target of a search: where candidates' files are measured, what is asked of them there, what is known so far."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgedistill.devices.latency.model import Row, choose_probes
from edgedistill.devices.proof import aim, spread_of
from edgedistill.documents.measurements import MeasuredLatency, Proof
from edgedistill.documents.specs import Goal, Percentile
from edgedistill.networks.space import Candidate
from edgedistill.selection.expectations import Aim, Expectations, Measurements, Prospect
from edgedistill.selection.lab import Figures, Lab

SAME_SIZE = 2.0
"""A network of up to so many times the multiply-adds tells of another."""

ENOUGH_TAILS = 8
"""From so many measured files on, their tails tell how a proof will find a file."""


@dataclass(eq=False)
class OnTarget:
    """A target with its `lab` and `goal`. `prior` are latency models for a device that is not attached; candidates above
    `plausible_multiply_adds` are too far outside the budget to be worth a probe. `attempts` are the proofs that are not
    met; `broken_off` counts the proofs that a failed session ended. `tails` are log(percentile / p50) of the files measured
    so far, each in a session of its own, beyond that of what they are proven beside: the anchor, or `teacher`, its latency,
    where the budget is a share of that. `fastest_ms` is the fastest of them. `taught_ms` is what proofs that are not met
    have taught to stay below, `shown_ms` what the last one that is met shows to be enough."""

    lab: Lab
    goal: Goal
    plausible_multiply_adds: float = math.inf
    prior: Expectations = field(default_factory=dict)
    teacher: MeasuredLatency | None = None
    measurements: Measurements = field(default_factory=Measurements)
    attempts: list[Proof] = field(default_factory=list)
    broken_off: int = 0
    tails: list[float] = field(default_factory=list)
    fastest_ms: float = math.inf
    taught_ms: list[float] = field(default_factory=list)
    shown_ms: float | None = None
    probes: int = 0
    scale_spread: float | None = field(init=False)
    """How much the sessions of the scale differ; None without one."""

    def __post_init__(self) -> None:
        aimed_ms = self.goal.aim_ms
        self.scale_spread = None if aimed_ms is None else spread_of(self.goal.budget.latency_ms, aimed_ms)

    @property
    def name(self) -> str:
        """The target's name."""
        return self.lab.device

    def probe(self, candidates: Sequence[Candidate], count: int) -> None:
        """Measure candidates with random weights until `count` files of each precision are known near the budget, chosen to
        stand for all the others there. `probes` counts those of which any file could be measured."""
        if not self.lab.measurable:
            return
        by_work = sorted(candidates, key=lambda c: (c.multiply_adds, c.spec.label))
        near = sum(c.multiply_adds <= self.plausible_multiply_adds for c in by_work)
        pool = by_work[: max(near, 2 * count)]
        # A calibration may have measured other sizes alone: what it tells of these is drawn far out, and no probe less.
        least, most = pool[0].multiply_adds / SAME_SIZE, pool[-1].multiply_adds * SAME_SIZE
        wanted = count - self.measurements.fewest(self.lab.precisions, least, most)
        if wanted <= 0:
            return
        for index in choose_probes([c.structure for c in pool], wanted):
            found = self.lab.probe(pool[index])
            for figures in found:
                self.learn(pool[index], figures)
            self.probes += bool(found)
            if not self.lab.measurable:
                return

    def learn(self, candidate: Candidate, figures: Figures) -> None:
        """A measurement becomes a row of the models, and its tail tells how a proof will find a file."""
        latency, percentile = figures.latency, self.goal.budget.percentile
        row = Row(candidate.structure, latency.comparable(percentile), figures.multiplying)
        self.measurements.add(row, figures.precision, figures.bytes, figures.peak_memory_bytes)
        self.tails.append(self._tail(latency))
        self.fastest_ms = min(self.fastest_ms, latency.comparable(percentile))
        self._aim()

    def _tail(self, latency: MeasuredLatency) -> float:
        """By how much a proof should find the file beyond its comparable latency, as a log."""
        percentile, teacher = self.goal.budget.percentile, self.teacher
        if teacher is None:
            beside = latency.comparable(percentile) / latency.comparable(Percentile.P50)
        elif teacher.relative is not None and percentile in teacher.relative.by_median:
            return 0.0  # Sessions beside this teacher are too short for the percentile: its proof compares medians too.
        else:
            beside = teacher.at(percentile) / teacher.at(Percentile.P50)
        return math.log(latency.at(percentile) / latency.at(Percentile.P50) / beside)

    def aim_below(self, aim_ms: float) -> None:
        """From now on files have to stay below `aim_ms` too."""
        self.taught_ms.append(aim_ms)
        self._aim()

    def aim_as_shown(self, aim_ms: float) -> None:
        """From now on a proof that is met says what files have to stay below, in the place of what was expected."""
        self.shown_ms = aim_ms
        self._aim()

    def _aim(self) -> None:
        # That a file may not be provable keeps others from being preferred; the fastest one is always worth a proof.
        budget_ms = self.goal.budget.latency_ms
        expected_ms = self._expected_ms() if self.shown_ms is None else self.shown_ms
        aims_ms = list(self.taught_ms)
        if expected_ms is not None:
            aims_ms.append(max(expected_ms, self.fastest_ms) if self.tails else expected_ms)
        if aims_ms:
            self.goal = self.goal.model_copy(update={"aim_ms": min(budget_ms, *aims_ms)})

    def _expected_ms(self) -> float | None:
        """What a file has to stay below to be proven, by what was measured of others; None where that tells nothing.

        A file is compared by its median in turn with the anchor's, and proven by its percentile, alone or in turn with the
        teacher's. So what the scale's sessions show and what the files' tails show come together: their spreads as those
        of a product, and by how much the tails are longer than that of the anchor or the teacher."""
        budget_ms = self.goal.budget.latency_ms
        if len(self.tails) < ENOUGH_TAILS:
            return None if self.scale_spread is None else aim(budget_ms, self.scale_spread)
        spread = math.hypot(self.scale_spread or 0.0, statistics.stdev(self.tails))
        return aim(budget_ms, spread) * math.exp(-statistics.fmean(self.tails))

    def prospect(self, share: float = 1.0) -> Prospect:
        """What a file has to keep here to be inside all limits, with `share` of the latency limit; and what is expected of
        files: what the measurements tell, or published figures where nothing was and nothing can be measured."""
        aim = Aim(
            share * self.goal.limit_ms,
            self.goal.budget.percentile,
            max_bytes=self.goal.max_bytes,
            max_memory_bytes=self.goal.max_memory_bytes,
        )
        expected = self.measurements.expectations()
        return Prospect(self.name, aim, expected if expected or self.lab.measurable else self.prior)
