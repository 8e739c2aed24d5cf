"""One target of a search: where candidates' files are measured, what is asked of them there, what is known so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgedistill.artifacts import Proof
from edgedistill.latency.model import Row, choose_probes
from edgedistill.selection.expect import Aim, Expectations, Measurements, Prospect
from edgedistill.selection.lab import Figures, Lab
from edgedistill.specs import Goal
from edgedistill.students.space import Candidate

SAME_SIZE = 2.0
"""A network of up to so many times the multiply-adds tells of another."""


@dataclass(eq=False)
class OnTarget:
    """A target with its `lab` and `goal`. `prior` are latency models for a device that is not attached; candidates above
    `plausible_multiply_adds` are too far outside the budget to be worth a probe. `attempts` are the proofs that are not
    met."""

    lab: Lab
    goal: Goal
    plausible_multiply_adds: float = math.inf
    prior: Expectations = field(default_factory=dict)
    measurements: Measurements = field(default_factory=Measurements)
    attempts: list[Proof] = field(default_factory=list)
    probes: int = 0

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
        """A measurement becomes a row of the models."""
        latency_ms = figures.latency.comparable(self.goal.budget.percentile)
        row = Row(candidate.structure, latency_ms, figures.multiplying)
        self.measurements.add(row, figures.precision, figures.bytes, figures.peak_memory_bytes)

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
