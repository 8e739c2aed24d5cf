"""One target of a search: where candidates' files are measured, what is asked of them there, what is known so far."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgedistill.artifacts import Proof
from edgedistill.devices.proof import aim
from edgedistill.latency.model import Row, choose_probes
from edgedistill.selection.expect import Aim, Expectations, Measurements, Prospect
from edgedistill.selection.lab import Figures, Lab
from edgedistill.specs import Goal, Percentile
from edgedistill.students.space import Candidate

SAME_SIZE = 2.0
"""A network of up to so many times the multiply-adds tells of another."""

ENOUGH_TAILS = 8
"""From so many measured files on, their tails tell how much sessions differ."""


@dataclass(eq=False)
class OnTarget:
    """A target with its `lab` and `goal`. `prior` are latency models for a device that is not attached; candidates above
    `plausible_multiply_adds` are too far outside the budget to be worth a probe. `attempts` are the proofs that are not
    met. `tails` are log(percentile / p50) of the files measured so far, each in a session of its own; `aims_ms` are the
    goal's own aim and what proofs that are not met have taught to stay below."""

    lab: Lab
    goal: Goal
    plausible_multiply_adds: float = math.inf
    prior: Expectations = field(default_factory=dict)
    measurements: Measurements = field(default_factory=Measurements)
    attempts: list[Proof] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    aims_ms: list[float] = field(default_factory=list)
    probes: int = 0

    def __post_init__(self) -> None:
        if self.goal.aim_ms is not None:
            self.aims_ms.append(self.goal.aim_ms)

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
        """A measurement becomes a row of the models, and its tail tells how much sessions differ."""
        latency, percentile = figures.latency, self.goal.budget.percentile
        row = Row(candidate.structure, latency.comparable(percentile), figures.multiplying)
        self.measurements.add(row, figures.precision, figures.bytes, figures.peak_memory_bytes)
        self.tails.append(math.log(latency.at(percentile) / latency.at(Percentile.P50)))
        self._aim()

    def aim_below(self, aim_ms: float) -> None:
        """From now on files have to stay below `aim_ms` too."""
        self.aims_ms.append(aim_ms)
        self._aim()

    def _aim(self) -> None:
        # The anchor's sessions follow one another within seconds; those of the files are as far apart as a proof's.
        budget_ms = self.goal.budget.latency_ms
        aims_ms = list(self.aims_ms)
        if len(self.tails) >= ENOUGH_TAILS:
            aims_ms.append(aim(budget_ms, statistics.stdev(self.tails)))
        if aims_ms:
            self.goal = self.goal.model_copy(update={"aim_ms": min(budget_ms, *aims_ms)})

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
