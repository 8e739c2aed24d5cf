"""What a target has learnt of how much sessions differ, and what a file has to stay below there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_lab import MadeUpLab, made_candidate
from made_up_search import BUDGET

from edgedistill.artifacts import MeasuredLatency
from edgedistill.devices.proof import aim
from edgedistill.selection.lab import Figures
from edgedistill.selection.on_target import ENOUGH_TAILS, OnTarget
from edgedistill.specs import Budget, Goal, Percentile, Precision

CANDIDATE = made_candidate("resnet", 1.0, 1000)


def measured(p95_ms: float, p50_ms: float) -> Figures:
    latency = MeasuredLatency(p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p95_ms, samples=100, device="a CPU")
    return Figures(Precision.FP32, latency)


def taught(tails: Sequence[float], aim_ms: float | None = None, percentile: Percentile = Percentile.P95) -> OnTarget:
    """A target on which files were measured of which p95 is so many times p50."""
    budget = Budget(latency_ms=BUDGET.latency_ms, percentile=percentile)
    target = OnTarget(MadeUpLab(), Goal(budget=budget, aim_ms=aim_ms))
    for number, tail in enumerate(tails):
        p50_ms = 1.0 + number
        target.learn(CANDIDATE, measured(p50_ms * tail, p50_ms))
    return target


def test_files_of_which_the_tail_differs_lower_the_aim() -> None:
    """log(p95 / p50) is 0.1 and 0.3 in turn: a standard deviation of 0.1 times the square root of 8 / 7."""
    target = taught([math.exp(0.1), math.exp(0.3)] * 4)
    assert target.goal.limit_ms == pytest.approx(aim(BUDGET.latency_ms, 0.1 * math.sqrt(8 / 7)))


def test_a_few_files_tell_nothing() -> None:
    few = [math.exp(0.1), math.exp(0.5)] * (ENOUGH_TAILS // 2)
    assert taught(few[:-1]).goal.aim_ms is None
    assert taught(few[:-1], 4.5).goal.limit_ms == 4.5
    assert taught(few).goal.limit_ms < 4.5


def test_a_tail_that_all_files_share_is_no_difference() -> None:
    """A file that is slow at p95 is slow in a proof too; that is no reason to doubt another."""
    assert taught([1.5] * 20).goal.limit_ms == pytest.approx(BUDGET.latency_ms)
    assert taught([1.5] * 20, 4.5).goal.limit_ms == 4.5, "how much the anchor's sessions differ is known too"


def test_medians_have_no_tail() -> None:
    tails = [1.0, 1.1, 1.2, 1.6] * 3
    assert taught(tails, percentile=Percentile.P50).goal.limit_ms == pytest.approx(BUDGET.latency_ms)


def test_later_files_may_raise_what_the_first_lowered() -> None:
    """The spread is that of all files so far: it does not stay at the largest that it ever was."""
    first = [1.0, 1.5] * 4
    early, late = taught(first), taught(first + [1.25] * 40)
    assert early.goal.limit_ms < late.goal.limit_ms < BUDGET.latency_ms


def test_a_proof_that_is_not_met_does_not_fix_what_the_tails_tell() -> None:
    """A later, smaller spread counts again, down to what the proof has taught."""
    target = taught([1.0, 1.5] * 4)
    target.aim_below(4.5)
    assert target.goal.limit_ms < 4.0
    for _ in range(2000):
        target.learn(CANDIDATE, measured(1.25, 1.0))
    assert target.goal.limit_ms == 4.5


@given(tails=st.lists(st.floats(1.0, 3.0), max_size=20), lower_ms=st.floats(0.5, 10.0))
def test_what_a_proof_has_taught_stays(tails: list[float], lower_ms: float) -> None:
    target = taught(tails)
    target.aim_below(lower_ms)
    least = target.goal.limit_ms
    assert least <= min(lower_ms, BUDGET.latency_ms)
    for tail in [1.25] * 40:
        target.learn(CANDIDATE, measured(tail, 1.0))
        assert target.goal.limit_ms <= min(lower_ms, BUDGET.latency_ms)
