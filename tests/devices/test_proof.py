"""How many sessions a proof takes, and what it says of them."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from edgedistill.devices.proof import (
    CONFIDENCE,
    FINALISTS,
    SHARES,
    Judgement,
    Look,
    ProofPlan,
    aim,
    sessions_needed,
    tolerance_bound,
    tolerance_factor,
)
from edgedistill.documents.specs import ProofLevel

QUICK = ProofPlan.at(ProofLevel.QUICK)
LEVELS = list(ProofLevel)


# -- the exact binomial ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "claimed", "sessions"),
    [
        (0.05, 0.8, 14),
        (0.05, 0.9, 29),
        (0.05, 0.95, 59),
        (0.05 / 3, 0.8, 19),
        (0.05 / 3, 0.9, 39),
        (0.05 / 3, 0.95, 80),
    ],
)
def test_published_sessions_with_none_over(alpha: float, claimed: float, sessions: int) -> None:
    assert sessions_needed(claimed, alpha) == sessions
    assert sessions == math.ceil(math.log(alpha) / math.log(claimed))


@given(st.sampled_from([0.8, 0.9, 0.95]), st.floats(0.001, 0.2), st.integers(0, 4))
def test_sessions_needed_are_the_fewest_that_the_binomial_confirms(claimed: float, alpha: float, over: int) -> None:
    """By its own sum: so few over the limit are less likely than alpha if the share is what is claimed, one session fewer
    would not do."""

    def as_few(sessions: int) -> float:
        return sum(math.comb(sessions, k) * (1 - claimed) ** k * claimed ** (sessions - k) for k in range(over + 1))

    sessions = sessions_needed(claimed, alpha, over)
    assert as_few(sessions) <= alpha * (1 + 1e-9)
    assert as_few(sessions - 1) > alpha * (1 - 1e-9)


# -- the tolerance bound --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "factor"), [(6, 3.006), (10, 2.355), (15, 2.07), (30, 1.78)])
def test_published_tolerance_factors(count: int, factor: float) -> None:
    assert tolerance_factor(count, 0.9, 0.05) == pytest.approx(factor, abs=0.01)


@given(st.integers(3, 100), st.sampled_from([0.8, 0.9, 0.95]), st.floats(0.005, 0.2))
def test_a_tolerance_factor_falls_with_sessions_to_the_quantile(count: int, claimed: float, alpha: float) -> None:
    factor = tolerance_factor(count, claimed, alpha)
    assert factor > tolerance_factor(count + 1, claimed, alpha) > stats.norm.ppf(claimed)
    assert factor < tolerance_factor(count, claimed, alpha / 2), "more confidence is further out"


@pytest.mark.parametrize(("count", "claimed", "alpha"), [(6, 0.9, 0.05), (23, 0.8, 0.02 / 3), (52, 0.8, 0.003)])
def test_the_bound_is_above_the_claimed_share_as_often_as_it_says(count: int, claimed: float, alpha: float) -> None:
    generator = np.random.default_rng(2)
    trials = 4000
    covered = 0
    quantile = math.exp(0.7 + 0.1 * float(stats.norm.ppf(claimed)))
    for values in np.exp(generator.normal(0.7, 0.1, (trials, count))):
        bound = tolerance_bound(values.tolist(), claimed, alpha)
        assert bound is not None
        covered += bound >= quantile
    error = math.sqrt(alpha * (1 - alpha) / trials)
    assert covered / trials == pytest.approx(1 - alpha, abs=4 * error)


sessions = st.lists(st.floats(1.0, 9.0), min_size=3, max_size=60)


@given(sessions, st.floats(1e-3, 1e3))
def test_the_bound_has_the_unit_of_its_values(values: list[float], unit: float) -> None:
    bound, scaled = (tolerance_bound(of, 0.8, 0.01) for of in (values, [v * unit for v in values]))
    assert bound is not None and scaled is not None
    assert scaled == pytest.approx(bound * unit, rel=1e-9)
    assert bound >= math.exp(statistics.fmean(map(math.log, values))) - 1e-9


def test_of_two_sessions_nothing_is_bounded() -> None:
    assert tolerance_bound([1.0, 1.1], 0.8, 0.05) is None
    assert tolerance_bound([1.0, 1.0, 1.0], 0.8, 0.05) == pytest.approx(1.0)


# -- the plan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_looks_and_finalists_share_what_may_go_wrong(level: ProofLevel) -> None:
    """Half of the 5% is kept for sessions that are alike, and each look is as early as its part allows."""
    plan = ProofPlan.at(level)
    assert plan.finalists == FINALISTS
    assert sum(look.alpha for look in plan.looks) * plan.finalists < (1 - CONFIDENCE) / 2
    assert [look.sessions for look in plan.looks] == sorted({look.sessions for look in plan.looks})
    for look in plan.looks:
        chance = float(stats.binom.cdf(look.over_allowed, look.sessions, 1 - plan.claimed))
        assert chance <= look.alpha < float(stats.binom.cdf(look.over_allowed, look.sessions - 1, 1 - plan.claimed))


def test_a_plan_of_one_look_and_one_finalist_has_all_of_it() -> None:
    plan = ProofPlan.at(ProofLevel.STANDARD, finalists=1, shares={0: 0.05})
    assert plan.looks == (Look(29, 0, 0.05),)


def judged(plan: ProofPlan, values: list[float], limit: float) -> tuple[int, Judgement]:
    """What is said of sessions that come one by one, and after how many."""
    for count in range(1, len(values) + 1):
        judgement = plan.judge(values[:count], limit)
        if judgement.ended:
            return count, judgement
    raise AssertionError("never ended")


FIRST, LAST = QUICK.looks[0], QUICK.looks[-1]
INSIDE = [1.0, 1.02, 0.98, 1.01, 0.99] * 40


@pytest.mark.parametrize("level", LEVELS)
def test_a_clear_case_is_over_at_the_first_look_and_not_before(level: ProofLevel) -> None:
    plan = ProofPlan.at(level)
    count, judgement = judged(plan, INSIDE, 2.0)
    assert (count, judgement.met) == (plan.looks[0].sessions, True)
    assert not any(plan.judge(INSIDE[:n], 2.0).ended for n in range(1, count))


def test_a_hopeless_case_stops_early() -> None:
    count, judgement = judged(QUICK, [3.0] * 40, 2.0)
    assert (count, judgement.met) == (LAST.over_allowed + 1, False)
    one_late = [1.0] * 10 + [3.0] * LAST.over_allowed + [1.0] * 5 + [3.0] + [1.0] * 40
    count, judgement = judged(QUICK, one_late, 2.0)
    assert (count, judgement.met) == (10 + LAST.over_allowed + 5 + 1, False)


def test_one_over_takes_the_second_look() -> None:
    values = [1.0, 1.01] * 5 + [2.1] + [1.0, 1.01] * 40
    count, judgement = judged(QUICK, values, 2.0)
    assert (count, judgement.over, judgement.met) == (LAST.sessions, 1, True)
    assert not QUICK.judge(values[: FIRST.sessions], 2.0).met


def test_a_yes_between_two_looks_does_not_count() -> None:
    values = [2.1] + [1.0, 1.01] * 40
    for count in range(1, LAST.sessions):
        assert not QUICK.judge(values[:count], 2.0).met
        assert not QUICK.judge(values[1 : count + 1], 2.0).met or count == FIRST.sessions


def test_none_over_is_not_enough_where_sessions_differ_that_much() -> None:
    """Every session is inside, and the next ones would hardly be: the bound is above the limit."""
    values = [1.0, 1.95] * 40
    count, judgement = judged(QUICK, values, 2.0)
    assert (count, judgement.over, judgement.met) == (LAST.sessions, 0, False)
    assert judgement.bound is not None and judgement.bound > 2.0


# -- properties -----------------------------------------------------------------------------------------------------

plans = st.sampled_from(
    [ProofPlan.at(level, finalists, of) for level in LEVELS for finalists in (1, 3) for of in ({0: 0.05}, SHARES)]
)
close = st.lists(st.floats(0.9, 1.3), min_size=1, max_size=90)


@given(plans, close, st.floats(0.8, 2.0), st.floats(1.0, 2.0))
def test_a_larger_limit_is_met_where_a_smaller_one_is(
    plan: ProofPlan, values: list[float], limit: float, more: float
) -> None:
    small, large = plan.judge(values, limit), plan.judge(values, limit * more)
    assert large.over <= small.over
    assert large.met or not small.met
    assert small.ended or not large.ended or large.met, "a larger limit never ends it with a no where a smaller goes on"


@given(plans, close, st.floats(0.8, 2.0), st.floats(1e-2, 1e2))
def test_the_unit_does_not_matter(plan: ProofPlan, values: list[float], limit: float, unit: float) -> None:
    one = plan.judge(values, limit)
    assume(one.bound is None or abs(one.bound / limit - 1) > 1e-6)
    assume(all(abs(value / limit - 1) > 1e-6 for value in values))
    other = plan.judge([value * unit for value in values], limit * unit)
    assert (one.over, one.met, one.ended) == (other.over, other.met, other.ended)


@given(st.data(), plans, st.floats(1.05, 1.5))
def test_more_over_never_makes_it_met(data: st.DataObject, plan: ProofPlan, limit: float) -> None:
    look = data.draw(st.sampled_from(plan.looks))
    values = data.draw(st.lists(st.floats(0.95, 1.05), min_size=look.sessions, max_size=look.sessions))
    places = data.draw(st.sets(st.integers(0, look.sessions - 1), max_size=4))
    worse = [limit * 1.01 if place in places else value for place, value in enumerate(values)]
    before, after = plan.judge(values, limit), plan.judge(worse, limit)
    assert after.over == len(places)
    assert before.met or not after.met


@given(plans, st.lists(st.floats(0.5, 3.0), min_size=1, max_size=120), st.floats(0.8, 2.0))
def test_it_ends_once_and_says_yes_at_a_look_alone(plan: ProofPlan, values: list[float], limit: float) -> None:
    """Taken session by session it ends by the last look, and what it says then rests on no more sessions over the limit than
    that look takes."""
    values = (values * (plan.looks[-1].sessions // len(values) + 1))[: plan.looks[-1].sessions]
    count, judgement = judged(plan, values, limit)
    if judgement.met:
        (look,) = [look for look in plan.looks if look.sessions == count]
        assert sum(value > limit for value in values[:count]) <= look.over_allowed == judgement.look.over_allowed
        assert judgement.bound is not None and judgement.bound <= limit
    else:
        assert judgement.over > plan.looks[-1].over_allowed or count == plan.looks[-1].sessions


@given(st.floats(0.1, 100.0), st.floats(0.0, 0.5))
def test_the_aim_is_inside_the_limit_by_what_sessions_differ(limit: float, session_spread: float) -> None:
    assert aim(limit, 0.0) == limit
    assert aim(limit, session_spread) <= limit
    assert aim(limit, session_spread + 0.01) < aim(limit, session_spread)


def test_a_file_at_the_aim_is_mostly_proven() -> None:
    """That is what it is for: sessions around it that differ as much as was thought."""
    generator = np.random.default_rng(5)
    spread, limit, met = 0.05, 2.0, 0
    for _ in range(200):
        values = (aim(limit, spread) * np.exp(generator.normal(0, spread, LAST.sessions))).tolist()
        met += judged(QUICK, values, limit)[1].met
    assert met > 190
