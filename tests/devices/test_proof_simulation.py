"""How often a proof says yes that should not, on devices whose truth is known.

Limits are such that a little less than the claimed share of sessions keeps them: whatever is met there is false. How long a
state lasts is told as a share of the period over which a proof's sessions are spread. `benchmarks/proof_simulation.py` tells
the rates of states that last longer.
"""

from __future__ import annotations

import numpy as np
import pytest
from simulated_devices import EVERY_S, Simulated, limit_at, prove

from edgedistill.devices.proof import CONFIDENCE, FINALISTS, Look, ProofPlan
from edgedistill.documents.specs import ProofLevel

RECORD = 60_000
BELOW = (0.01, 0.03, 0.1)
"""By how much less than the claimed share of sessions keeps the limit."""
LEVELS = (ProofLevel.QUICK, ProofLevel.STANDARD)
ERRORS = 2.0
"""A rate is found to its standard error, of which so many are allowed."""


def period_s(look: Look) -> float:
    return look.sessions * EVERY_S


def devices(lasts_s: float, *, bounded: bool) -> list[Simulated]:
    """Of each kind some whose states last no longer than that, in the mean or at all."""
    mean_s = lasts_s / 2 if bounded else lasts_s
    found = [Simulated("bursts", mean_s, burst_s, factor=3.0, bounded=bounded) for burst_s in (0.05, 0.3)]
    for slow in (0.1, 0.2, 0.3):
        times_s = (mean_s, mean_s * slow / (1 - slow))
        found += [
            Simulated("two speeds", *times_s, bounded=bounded),
            Simulated("two speeds, noisy runs", *times_s, bounded=bounded, session_noise=0.01, run_noise=0.1),
            Simulated("throttling", *times_s, by_degrees=True, bounded=bounded),
        ]
    return found


def false_rates(plan: ProofPlan, device: Simulated) -> list[tuple[float, float]]:
    """The rate and its standard error at each limit."""
    values = device.sessions(RECORD, seed=1)
    found = []
    for below in BELOW:
        limit = limit_at(values, plan.claimed - below)
        assert (values <= limit).mean() < plan.claimed
        outcomes = prove(values, limit, plan)
        found.append((outcomes.rate(), outcomes.error()))
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_where_no_state_lasts_a_tenth_of_the_period_few_proofs_are_false(level: ProofLevel) -> None:
    """Of the whole period that is planned; most proofs are over in half of it."""
    plan = ProofPlan.at(level)
    for device in devices(0.0999 * period_s(plan.looks[-1]), bounded=True):
        assert max(rate for rate, _ in false_rates(plan, device)) <= 1 - CONFIDENCE, device


@pytest.mark.parametrize("share", [*(pytest.param(share, marks=pytest.mark.slow) for share in (0.01, 0.05)), 0.0999])
@pytest.mark.parametrize("level", LEVELS)
def test_where_states_last_a_tenth_of_the_period_in_the_mean_few_proofs_are_false(
    level: ProofLevel, share: float
) -> None:
    """Of the period of the first look, the shortest in which a proof can say yes. Some states last several times as long."""
    plan = ProofPlan.at(level)
    for device in devices(share * period_s(plan.looks[0]), bounded=False):
        for rate, error in false_rates(plan, device):
            assert rate <= 1 - CONFIDENCE + ERRORS * error, device


@pytest.mark.parametrize("level", LEVELS)
def test_where_sessions_have_nothing_to_do_with_one_another_few_proofs_are_false(level: ProofLevel) -> None:
    """The normal case: both tests are exact there, and one of three finalists has three chances."""
    plan = ProofPlan.at(level)
    values = np.exp(np.random.default_rng(3).normal(0, 0.05, RECORD))
    for below in (0.002, *BELOW):
        outcomes = prove(values, limit_at(values, plan.claimed - below), plan)
        assert outcomes.rate() <= 1 - CONFIDENCE + ERRORS * outcomes.error()


def test_states_as_long_as_the_period_are_not_seen_through() -> None:
    """What no number of sessions in so short a time can tell: the simulation does find false proofs."""
    plan = ProofPlan.at(ProofLevel.QUICK)
    device = Simulated("two speeds", period_s(plan.looks[0]), period_s(plan.looks[0]) / 3)
    assert false_rates(plan, device)[0][0] > 0.3


def test_a_plan_that_looks_again_and_again_with_the_whole_5_percent_is_found_out() -> None:
    careless = ProofPlan.at(ProofLevel.QUICK, shares=dict.fromkeys(range(4), FINALISTS * (1 - CONFIDENCE)))
    values = np.exp(np.random.default_rng(3).normal(0, 0.05, RECORD))
    assert prove(values, limit_at(values, 0.79), careless).rate() > 0.1
    assert prove(values, limit_at(values, 0.79), ProofPlan.at(ProofLevel.QUICK)).rate() < 0.05


@pytest.mark.parametrize("level", list(ProofLevel))
def test_a_limit_well_above_the_sessions_is_proven(level: ProofLevel) -> None:
    """A proof that never said yes would never be false."""
    plan = ProofPlan.at(level)
    device = Simulated("bursts", 40.0, 0.3)
    values = device.sessions(RECORD, seed=1)
    assert prove(values, 1.5 * limit_at(values, 0.8), plan, finalists=1).rate() > 0.99


@pytest.mark.parametrize("level", list(ProofLevel))
def test_a_record_is_judged_as_the_plan_judges_session_by_session(level: ProofLevel) -> None:
    plan = ProofPlan.at(level)
    values = Simulated("two speeds", 40.0, 8.0).sessions(3000, seed=4)
    for share in (0.75, 0.9, 0.99, 1.0):
        limit = limit_at(values, share)
        outcomes = prove(values, limit, plan, finalists=1)
        for start in range(0, len(outcomes.met), 37):
            count = 1
            while not (judgement := plan.judge(values[start : start + count].tolist(), limit)).ended:
                count += 1
            assert (judgement.met, count) == (outcomes.met[start], outcomes.sessions[start])


def test_of_several_finalists_each_begins_where_the_one_before_ended() -> None:
    plan = ProofPlan.at(ProofLevel.QUICK)
    values = Simulated("two speeds", 40.0, 8.0).sessions(3000, seed=5)
    limit = limit_at(values, 0.85)
    one, three = prove(values, limit, plan, finalists=1), prove(values, limit, plan)
    for start in range(0, len(three.met), 11):
        place, met = start, []
        for _ in range(3):
            met.append(bool(one.met[place]))
            place += int(one.sessions[place])
        assert three.met[start] == any(met)


def test_a_simulated_device_is_what_it_is_said_to_be() -> None:
    generator = np.random.default_rng(6)
    at_s = np.arange(0, 50_000, 0.1)
    for bounded in (False, True):
        device = Simulated("two speeds", 30.0, 10.0, bounded=bounded)
        slow = device.slowdown(at_s, generator) > 1
        assert slow.mean() == pytest.approx(0.25, abs=0.02)
        changes = np.flatnonzero(np.diff(slow.astype(int)))
        lengths_s = np.diff(changes) * 0.1
        assert lengths_s.mean() == pytest.approx(20.0, rel=0.05)
        assert bool(lengths_s.max() < 60.2) is bounded
        assert device.lasts_s == (60.0 if bounded else 30.0)
    hot = Simulated("throttling", 30.0, 10.0, by_degrees=True).slowdown(at_s, generator)
    assert 1.15 < hot[hot > 1].mean() < 1.25, "half of the way, in the mean"
