"""Devices whose speed changes as it does on real machines, and what proofs on them come to. The truth is known: the long run
of a device's own sessions.

A device is fast and slow by turns. How long each state lasts is random; short slow ones are bursts of a neighbour's, and
where the slow one comes by degrees it is heat. Sessions differ by a factor of their own, runs inside them by another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.devices.proof import ProofPlan, tolerance_factor

SESSION_S = 3.0
EVERY_S = 4.0
"""From the beginning of one session to that of the next: a process starts, loads and warms up between."""
RUNS = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """A device that is fast for `fast_s` in the mean, then slow for `slow_s`: `factor` times the latency, from the first
    moment on or, with `by_degrees`, more and more. Times are exponential (the speed is a Markov chain) or, where they are
    `bounded`, anything up to twice the mean. `session_noise` and `run_noise` are standard deviations of logs."""

    kind: str
    fast_s: float
    slow_s: float
    factor: float = 1.4
    by_degrees: bool = False
    bounded: bool = False
    session_noise: float = 0.02
    run_noise: float = 0.03

    @property
    def lasts_s(self) -> float:
        """How long a state lasts: the longer one's mean or, where there is one, its bound."""
        return max(self.fast_s, self.slow_s) * (2 if self.bounded else 1)

    def slowdown(self, at_s: Floats, generator: np.random.Generator) -> Floats:
        """By what the latency is multiplied at each of the rising times."""
        states = 2 * round(1.5 * (at_s[-1] / (self.fast_s + self.slow_s) + 50))
        lengths = np.empty(states)
        for place, mean_s in enumerate((self.fast_s, self.slow_s)):
            drawn = generator.uniform(0, 2, states // 2) if self.bounded else generator.exponential(1, states // 2)
            lengths[place::2] = mean_s * drawn
        ends = np.cumsum(lengths)
        assert ends[-1] > at_s[-1], "the states end too early"
        ends -= generator.uniform(0, ends[-1] - at_s[-1])  # time 0 is somewhere in the middle of things
        state = np.searchsorted(ends, at_s, side="right")
        part = 1 - (ends[state] - at_s) / lengths[state] if self.by_degrees else 1.0
        found: Floats = np.exp(np.log(self.factor) * (state % 2) * part)
        return found

    def sessions(self, count: int, seed: int) -> Floats:
        """The p95 of so many sessions in a row, each of `RUNS` runs."""
        generator = np.random.default_rng(seed)
        begins_s = np.arange(count) * EVERY_S
        at_s = (begins_s[:, None] + np.linspace(0, SESSION_S, RUNS, endpoint=False)).ravel()
        slowdown = self.slowdown(at_s, generator).reshape(count, RUNS)
        slowdown *= np.exp(generator.normal(0, self.run_noise, slowdown.shape))
        rank = int(np.ceil(0.95 * RUNS)) - 1
        found: Floats = np.partition(slowdown, rank, axis=1)[:, rank]
        return found * np.exp(generator.normal(0, self.session_noise, count))


@dataclass(frozen=True)
class Outcomes:
    """What a proof comes to that begins at each session of a record: whether one of the plan's finalists, one after the
    other, is met, and how many sessions the first of them takes."""

    met: NDArray[np.bool_]
    sessions: NDArray[np.int64]

    def rate(self) -> float:
        return float(self.met.mean())

    def error(self, parts: int = 50) -> float:
        """Standard error of `rate`: beginnings close to one another share sessions, so that it is that of parts' means."""
        means = [part.mean() for part in np.array_split(self.met, parts)]
        return float(np.std(means, ddof=1) / np.sqrt(parts))


def prove(values: Floats, limit: float, plan: ProofPlan, finalists: int | None = None) -> Outcomes:
    """The plan's judgement at every beginning in the record, as `ProofPlan.judge` gives it session by session."""
    over = values > limit
    logs = np.log(values)
    overs, sums, squares = (np.concatenate([[0.0], np.cumsum(each)]) for each in (over, logs, logs**2))
    most = plan.looks[-1].sessions
    starts = np.arange(len(values) - most + 1)
    first_met = np.zeros(len(starts), bool)
    # The session at which one more is over than any look takes.
    places = np.flatnonzero(over)
    nth = np.searchsorted(places, starts) + plan.looks[-1].over_allowed
    hopeless = np.full(len(starts), most)
    known = nth < len(places)
    hopeless[known] = np.minimum(most, places[nth[known]] - starts[known] + 1)
    length = hopeless
    for look in plan.looks:
        n = look.sessions
        mean = (sums[starts + n] - sums[starts]) / n
        variance = np.maximum((squares[starts + n] - squares[starts] - n * mean**2) / (n - 1), 0)
        bound = np.exp(mean + tolerance_factor(n, plan.claimed, look.alpha) * np.sqrt(variance))
        yes = ~first_met & (overs[starts + n] - overs[starts] <= look.over_allowed) & (bound <= limit)
        length = np.where(yes, n, length)
        first_met |= yes
    count = plan.finalists if finalists is None else finalists
    usable = len(starts) - (count - 1) * most
    met, place = np.zeros(usable, bool), np.arange(usable)
    for _ in range(count):
        met |= first_met[place]
        place = np.minimum(place + length[place], len(starts) - 1)
    return Outcomes(met, length[:usable])


def limit_at(values: Floats, share: float) -> float:
    """A limit that this share of the sessions stays below, and hardly more."""
    return float(np.quantile(values, share, method="inverted_cdf"))
