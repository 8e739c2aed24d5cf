"""What proves a budget: a number of sessions, fixed beforehand, and two tests of them. Pure functions.

Runs inside a session are not independent, so that the unit is the session: a fresh process, a warm-up, seconds of runs.
The claim is that with 95% confidence at least a share of such sessions keep the limit. Two one-sided tests have to say
so:

- the exact binomial: had only that share of sessions kept the limit, so few over it would have been too unlikely
  (Clopper and Pearson 1934);
- a normal tolerance bound of the sessions' logs, mean + k s, with k from the noncentral t distribution (Hahn and
  Meeker, Statistical Intervals, 4.6): it knows by how much sessions stay inside, which a count does not.

A plan says before the first sample how many finalists may be tried and how often each is looked at; each look has its
part of the 5% (Bonferroni). The parts add up to 2.3%. The rest is for sessions that are alike because they are close in
time, which both tests take for independent: in simulations (`benchmarks/proof_simulation.py`) 2.3% become nearly 5% where
the device keeps a state for a tenth of the period. To stop where no further session could help costs nothing, since it
can only turn a yes into a no.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from scipy import stats  # type: ignore[import-untyped]

from edgedistill.documents.specs import ProofLevel

CONFIDENCE = 0.95
FINALISTS = 3
SHARES = {0: 0.02, 2: 0.003}
"""How many sessions over the limit each look takes, and what it has of the 5%, which the finalists share. The first look
takes none and has most of it, so that a clear case is over soon."""


@dataclass(frozen=True)
class Look:
    """After so many sessions, of which at most `over_allowed` may be over the limit. `alpha` is its chance to say yes
    wrongly."""

    sessions: int
    over_allowed: int
    alpha: float


@dataclass(frozen=True)
class ProofPlan:
    """What is fixed before the first sample."""

    claimed: float
    looks: tuple[Look, ...]
    finalists: int

    @classmethod
    def at(cls, level: ProofLevel, finalists: int = FINALISTS, shares: Mapping[int, float] = SHARES) -> ProofPlan:
        """The plan of a level: each look as early as the exact binomial lets it say yes."""
        claimed, alphas = level.claimed, {over: share / finalists for over, share in shares.items()}
        looks = (Look(sessions_needed(claimed, alpha, over), over, alpha) for over, alpha in alphas.items())
        return cls(claimed, tuple(looks), finalists)

    def judge(self, values: Sequence[float], limit: float) -> Judgement:
        """What the sessions so far say of `limit`, in the unit of `values`."""
        over = sum(value > limit for value in values)
        ended = over > self.looks[-1].over_allowed or len(values) >= self.looks[-1].sessions
        still = (look for look in self.looks if len(values) <= look.sessions and over <= look.over_allowed)
        look = next(still, self.looks[-1])
        bound = tolerance_bound(values, self.claimed, look.alpha)
        at_a_look = len(values) == look.sessions
        met = at_a_look and over <= look.over_allowed and bound is not None and bound <= limit
        return Judgement(look, over, bound, met, met or ended)


@dataclass(frozen=True)
class Judgement:
    """What is said of the sessions so far at `look`, the next one that may say yes. `ended` where no further session is to
    be taken: it is `met`, or none could make it so."""

    look: Look
    over: int
    bound: float | None
    met: bool
    ended: bool


@cache
def sessions_needed(claimed: float, alpha: float, over: int = 0) -> int:
    """The fewest sessions of which `over` above the limit show, with confidence 1 - `alpha`, that at least the share
    `claimed` keeps it: 14, 29, 59 for 80, 90, 95% at 0.05 and none over; 19, 39, 80 at 0.05/3."""
    count = over + 1
    while stats.binom.cdf(over, count, 1 - claimed) > alpha:
        count += 1
    return count


@cache
def tolerance_factor(count: int, claimed: float, alpha: float) -> float:
    """k such that, of `count` values of a normal distribution, mean + k s is above the share `claimed` of it with
    confidence 1 - `alpha`: 3.006 for 6, 90% and 0.05."""
    root = math.sqrt(count)
    return float(stats.nct.ppf(1 - alpha, count - 1, stats.norm.ppf(claimed) * root)) / root


def tolerance_bound(values: Sequence[float], claimed: float, alpha: float) -> float | None:
    """The one-sided tolerance bound of positive values whose logs are normal, in their unit; None for fewer than
    three."""
    if len(values) < 3:
        return None
    logs = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logs) + tolerance_factor(len(logs), claimed, alpha) * statistics.stdev(logs))


HEADROOM = 2.25
"""A file is worth a proof from so many of the sessions' standard deviations below the limit: there 1.2% of sessions are
over, and 97% of proofs are met, 75% at the first look."""


def aim(limit: float, session_spread: float) -> float:
    """What a file's typical session should stay below to be proven inside `limit`, where sessions differ by
    `session_spread` (standard deviation of the log)."""
    return limit * math.exp(-HEADROOM * session_spread)


def spread_of(limit: float, aimed: float) -> float:
    """The session spread of which `aimed` is the `aim`."""
    return math.log(limit / aimed) / HEADROOM
