"""What a target has learnt of how much sessions differ, and what a file has to stay below there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_lab import MadeUpLab, made_candidate
from made_up_search import BUDGET

from edgedistill.devices.proof import aim
from edgedistill.documents.measurements import MeasuredLatency, Percentiles, RelativeLatency
from edgedistill.documents.specs import Budget, Goal, Percentile, Precision
from edgedistill.selection.lab import Figures
from edgedistill.selection.on_target import ENOUGH_TAILS, OnTarget

CANDIDATE = made_candidate("resnet", 1.0, 1000)


ANCHOR = Percentiles(p50=2.0, p95=2.0, p99=2.0)
"""An anchor without a tail: what a file's own tells is then all its own."""


def measured(p95_ms: float, p50_ms: float, anchor: Percentiles = ANCHOR) -> Figures:
    """A file measured in one session, compared by its median with the anchor's."""
    ratio = p50_ms / 2.0
    relative = RelativeLatency(
        p50=ratio, p95=ratio, p99=ratio, by_median=(Percentile.P95,), anchor_sha256="anchor", anchor_ms=anchor
    )
    latency = MeasuredLatency(
        p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p95_ms, samples=100, device="a CPU", relative=relative
    )
    return Figures(Precision.FP32, latency)


FAST_MS = 0.001
"""Of one file among others: with it, none is kept for being the fastest."""


def taught(
    tails: Sequence[float],
    aim_ms: float | None = None,
    percentile: Percentile = Percentile.P95,
    anchor: Percentiles = ANCHOR,
    teacher: MeasuredLatency | None = None,
) -> OnTarget:
    """A target on which files were measured of which p95 is so many times p50."""
    budget = Budget(latency_ms=BUDGET.latency_ms, percentile=percentile)
    target = OnTarget(MadeUpLab(), Goal(budget=budget, aim_ms=aim_ms), teacher=teacher)
    for number, tail in enumerate(tails):
        p50_ms = 1.0 + number if number else FAST_MS
        target.learn(CANDIDATE, measured(p50_ms * tail, p50_ms, anchor))
    return target


def test_files_of_which_the_tail_differs_lower_the_aim() -> None:
    """log(p95 / p50) is 0.1 and -0.1 in turn: a standard deviation of 0.1 times the square root of 8 / 7."""
    target = taught([math.exp(0.1), math.exp(-0.1)] * 4)
    assert target.goal.limit_ms == pytest.approx(aim(BUDGET.latency_ms, 0.1 * math.sqrt(8 / 7)))


def test_tails_that_are_longer_than_the_anchors_lower_it_by_as_much() -> None:
    """A file is compared by its median, and p95 is what is proven."""
    assert taught([1.2] * 20).goal.limit_ms == pytest.approx(BUDGET.latency_ms / 1.2)
    same = Percentiles(p50=2.0, p95=2.4, p99=2.4)
    assert taught([1.2] * 20, anchor=same).goal.limit_ms == pytest.approx(BUDGET.latency_ms)
    shorter = Percentiles(p50=2.0, p95=3.0, p99=3.0)
    assert taught([1.2] * 20, anchor=shorter).goal.limit_ms == BUDGET.latency_ms, "never above the budget"


def test_a_share_is_proven_beside_the_teacher_which_has_a_tail_of_its_own() -> None:
    """Ratios of p95 to it are above those of medians by what the file's tail is longer than the teacher's."""
    teacher = measured(p95_ms=12.0, p50_ms=10.0).latency
    assert taught([1.2] * 20, teacher=with_both(teacher)).goal.limit_ms == pytest.approx(BUDGET.latency_ms)
    assert taught([1.5] * 20, teacher=with_both(teacher)).goal.limit_ms == pytest.approx(BUDGET.latency_ms / 1.25)
    assert taught([1.5] * 20, teacher=teacher).goal.limit_ms == pytest.approx(BUDGET.latency_ms), (
        "beside a teacher that is too slow for p95 in a session, its proof compares medians"
    )


def with_both(teacher: MeasuredLatency) -> MeasuredLatency:
    """A teacher of which sessions had runs enough for every percentile."""
    assert teacher.relative is not None
    return teacher.model_copy(update={"relative": teacher.relative.model_copy(update={"by_median": ()})})


def test_what_the_scale_and_the_tails_show_comes_together() -> None:
    """As the spreads of a product's factors do."""
    scale, tails = 0.3, 0.1 * math.sqrt(8 / 7)
    target = taught([math.exp(0.1), math.exp(-0.1)] * 4, aim(BUDGET.latency_ms, scale))
    assert target.goal.limit_ms == pytest.approx(aim(BUDGET.latency_ms, math.hypot(scale, tails)))


def test_a_few_files_tell_nothing() -> None:
    few = [math.exp(0.1), math.exp(0.5)] * (ENOUGH_TAILS // 2)
    assert taught(few[:-1]).goal.aim_ms is None
    assert taught(few[:-1], 4.5).goal.limit_ms == pytest.approx(4.5)
    assert taught(few).goal.limit_ms < 4.5


def test_the_fastest_file_is_worth_a_proof_whatever_is_expected() -> None:
    """Where sessions are expected to differ that much, no file would ever be tried."""
    target = taught([1.0, 1.8] * 5)
    assert target.goal.limit_ms < 4.0
    target.fastest_ms = 4.9
    target.learn(CANDIDATE, measured(5.5, 4.95))
    assert target.goal.limit_ms == pytest.approx(4.9)
    target.aim_below(4.0)
    assert target.goal.limit_ms == 4.0, "what a proof has shown is no expectation"


def test_medians_have_no_tail() -> None:
    tails = [1.0, 1.1, 1.2, 1.6] * 3
    assert taught(tails, percentile=Percentile.P50).goal.limit_ms == pytest.approx(BUDGET.latency_ms)


def test_later_files_may_raise_what_the_first_lowered() -> None:
    """The spread is that of all files so far: it does not stay at the largest that it ever was."""
    first = [1.0, 1.5] * 4
    early, late = taught(first), taught(first + [1.0] * 40)
    assert early.goal.limit_ms < late.goal.limit_ms < BUDGET.latency_ms


def test_a_proof_that_is_not_met_does_not_fix_what_the_tails_tell() -> None:
    """A later, smaller spread counts again, down to what the proof has taught."""
    target = taught([1.0, 1.5] * 4)
    target.aim_below(4.5)
    assert target.goal.limit_ms < 4.0
    for _ in range(2000):
        target.learn(CANDIDATE, measured(1.0, 1.0))
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
