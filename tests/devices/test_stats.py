"""Percentiles of sessions, and ratios of files that ran in turn."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from factories import make_profile, make_session
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.devices.stats import (
    LEAST_BEYOND,
    RUNS_BEYOND,
    anchor_latency,
    cold_start,
    elapsed_s,
    least_runs,
    measured_latency,
    percentile_ms,
    ratio,
    resolves,
    spread,
)
from edgedistill.documents.measurements import Moment, Percentiles, Session
from edgedistill.documents.specs import Percentile

ANCHOR_MS = Percentiles(p50=2.0, p95=3.0, p99=4.0)


# -- percentiles ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
def test_percentile_is_a_sample_that_enough_do_not_exceed(samples: list[int], percent: int) -> None:
    value = percentile_ms(samples, percent / 100)
    ordered = sorted(samples)
    rank = max(1, -(-percent * len(ordered) // 100))
    assert value == ordered[rank - 1] / 1e6


@pytest.mark.parametrize(("percentile", "runs"), [(Percentile.P50, 6), (Percentile.P95, 60), (Percentile.P99, 300)])
def test_a_session_has_three_runs_beyond_its_percentile(percentile: Percentile, runs: int) -> None:
    assert least_runs(percentile) == runs
    samples = list(range(1, runs + 1))
    assert sum(s / 1e6 > percentile_ms(samples, percentile.fraction) for s in samples) == LEAST_BEYOND


def test_latency_of_several_sessions_is_not_that_of_the_slowest() -> None:
    quick, slow = make_session([1_000_000] * 100), make_session([3_000_000] * 100)
    latency = measured_latency(make_profile(quick, quick, slow))
    assert (latency.p50_ms, latency.p99_ms) == (1.0, 1.0)
    assert (latency.samples, latency.sessions, latency.device) == (300, 3, "board")
    assert latency.relative is None
    assert latency.comparable(Percentile.P95) == latency.at(Percentile.P95), "there is nothing to compare it with"


def test_every_sample_counts_in_the_percentiles() -> None:
    """A tenth of the runs beside a neighbour: p95 and p99 are theirs, and no filter hides them."""
    latency = measured_latency(make_profile(make_session([1_000_000] * 900 + [9_000_000] * 100)))
    assert (latency.p50_ms, latency.p95_ms, latency.p99_ms) == (1.0, 9.0, 9.0)


# -- ratios ---------------------------------------------------------------------------------------------------------


def test_a_ratio_is_of_percentiles_of_all_runs() -> None:
    mine = [1_000_000] * 900 + [4_000_000] * 100
    its = [2_000_000] * 900 + [5_000_000] * 100
    session = make_session(mine, its)
    assert ratio(session, Percentile.P50) == 0.5
    assert ratio(session, Percentile.P95) == 0.8
    assert not resolves(session, Percentile.P99), "ten runs beyond it"


@pytest.mark.parametrize(
    ("percentile", "enough"), [(Percentile.P50, 40), (Percentile.P95, 400), (Percentile.P99, 2000)]
)
def test_too_short_sessions_compare_medians(percentile: Percentile, enough: int) -> None:
    """The upper half of the file is four times as slow, that of the anchor is not."""

    def session(mine: int, its: int) -> Session:
        return make_session([1_000_000] * (mine - mine // 2 + 1) + [4_000_000] * (mine // 2 - 1), [2_000_000] * its)

    assert enough * (1 - percentile.fraction) == pytest.approx(RUNS_BEYOND)
    above = 0.5 if percentile is Percentile.P50 else 2.0
    assert ratio(session(enough, enough), percentile) == above
    assert ratio(session(enough, enough - 1), percentile) == 0.5, "it takes runs of both"
    assert ratio(session(enough - 1, enough), percentile) == 0.5


def test_a_session_alone_has_no_ratio() -> None:
    with pytest.raises(ValueError, match="no anchor"):
        ratio(make_session([1] * 100), Percentile.P50)
    assert not resolves(make_session([1] * 10_000), Percentile.P50)


def in_turn(*ratios: float, runs: int = 400) -> list[Session]:
    """Sessions at these ratios, each on a machine of another speed."""
    return [make_session([round(r * 10**6 * (1 + k))] * runs, [10**6 * (1 + k)] * runs) for k, r in enumerate(ratios)]


def test_relative_latency_is_the_median_of_ratios_times_the_anchors_own() -> None:
    latency = measured_latency(make_profile(*in_turn(0.5, 0.8, 0.6)), ANCHOR_MS)
    assert latency.relative is not None
    assert latency.relative.at(Percentile.P95) == pytest.approx(0.6)
    assert latency.relative.anchor_sha256 == "anchor"
    assert latency.relative.by_median == (Percentile.P99,)
    assert latency.comparable(Percentile.P95) == pytest.approx(0.6 * 3.0)
    assert latency.comparable(Percentile.P50) == pytest.approx(0.6 * 2.0)
    assert latency.at(Percentile.P95) == pytest.approx(1.6), "what was measured stays as it was measured"


@pytest.mark.parametrize("count", [1, 2, 6])
def test_medians_are_compared(count: int) -> None:
    """A neighbour lengthens a tenth of the file's runs fourfold: the tail of one second says little of the next one's."""
    session = make_session([10**6] * 900 + [4 * 10**6] * 100, [2 * 10**6] * 1000)
    latency = measured_latency(make_profile(*[session] * count), ANCHOR_MS)
    assert latency.relative is not None
    assert (latency.relative.p50, latency.relative.p95) == (0.5, 2.0)
    assert latency.relative.by_median == (Percentile.P99,)
    assert latency.comparable(Percentile.P95) == pytest.approx(0.5 * 3.0)
    assert latency.p95_ms == 4.0


def test_one_short_session_is_told_of() -> None:
    latency = measured_latency(make_profile(*in_turn(0.5, 0.6, runs=4000), *in_turn(0.7, runs=100)), ANCHOR_MS)
    assert latency.relative is not None
    assert latency.relative.by_median == (Percentile.P95, Percentile.P99)


def test_without_the_anchors_own_latency_nothing_is_relative() -> None:
    assert measured_latency(make_profile(*in_turn(0.5)), None).relative is None
    assert measured_latency(make_profile(make_session([1] * 100)), ANCHOR_MS).relative is None


@given(st.lists(st.integers(1_000, 10**7), min_size=40, max_size=80), st.floats(0.2, 5.0), st.integers(1, 2000))
def test_a_ratio_does_not_know_the_machines_speed(samples: list[int], speed: float, seed: int) -> None:
    """Both models on a machine that is `speed` times as slow: the same ratio, to the rounding of nanoseconds."""
    other = np.random.default_rng(seed).permutation(samples).tolist()
    slower = make_session([round(s * speed * 1000) for s in samples], [round(s * speed * 2000) for s in other])
    as_it_was = make_session([s * 1000 for s in samples], [s * 2000 for s in other])
    assert ratio(slower, Percentile.P95) == pytest.approx(ratio(as_it_was, Percentile.P95), rel=1e-5)


def test_the_anchors_own_latency() -> None:
    found = anchor_latency(in_turn(0.5, 0.5, 0.5))
    assert (found.p50, found.p95, found.p99) == (2.0, 2.0, 2.0), "the median over the sessions, of the anchor's runs"
    alone = anchor_latency([make_session([3_000_000] * 100)])
    assert alone.p95 == 3.0, "of its own sessions those of the file"


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30), st.floats(1e-2, 1e2))
def test_spread_is_that_of_logs_and_knows_no_unit(values: list[float], unit: float) -> None:
    expected = statistics.stdev(map(math.log, values))
    assert spread(values) == pytest.approx(expected)
    assert spread([value * unit for value in values]) == pytest.approx(expected, abs=1e-9)
    assert spread(values[:1]) == 0.0


# -- what alternating costs -----------------------------------------------------------------------------------------


def alternating(turns: int, runs: int, cold: int, cold_factor: float, its_runs: int = 40) -> Session:
    """A session of a file that takes 1 ms, its first runs of each turn longer; its anchor takes 2 ms whenever it runs."""
    turn = [round(1_000_000 * (cold_factor if k < cold else 1)) for k in range(runs)]
    return make_session(turn * turns, [2_000_000] * (its_runs * turns), turns=((runs, its_runs),) * turns)


@pytest.mark.parametrize("more", [0.05, 0.5])
def test_a_cold_start_of_more_than_half_of_the_runs_is_found(more: float) -> None:
    """Of eleven runs of a turn six find the other's data in the cache: the median is theirs, the second half's is not."""
    planted = make_profile(*[alternating(20, 11, 6, 1 + more)] * 3)
    assert ratio(planted.sessions[0], Percentile.P50) == pytest.approx((1 + more) / 2)
    assert cold_start(planted) == pytest.approx(more)


def test_a_cold_start_of_both_models_is_none_of_the_ratio() -> None:
    turn = [1_500_000] * 6 + [1_000_000] * 5
    assert cold_start(make_profile(make_session(turn * 9, turn * 9, turns=((11, 11),) * 9))) == pytest.approx(0.0)


def test_no_cold_start_is_none() -> None:
    assert cold_start(make_profile(alternating(20, 10, 0, 1.5))) == pytest.approx(0.0)


def test_a_cold_start_of_the_lesser_part_hardly_moves_the_median() -> None:
    """That is what a burst is long for."""
    assert cold_start(make_profile(alternating(20, 50, 10, 2.0))) == pytest.approx(0.0)


def test_where_no_turn_has_two_runs_nothing_is_known_of_it() -> None:
    assert cold_start(make_profile(make_session([1] * 10, [2] * 10, turns=((1, 1),) * 10))) is None
    assert cold_start(make_profile(make_session([1] * 10))) is None


def moment(at: str) -> Moment:
    return Moment(at=at)


def test_elapsed_seconds() -> None:
    start, end = moment("2026-01-02T23:59:58.500+00:00"), moment("2026-01-03T00:01:00.000+00:00")
    assert elapsed_s(start, end) == 61.5
    assert elapsed_s(start, moment("2026-01-03T02:01:00.000+02:00")) == 61.5, "wherever the clock stands"
    assert elapsed_s(None, end) == elapsed_s(start, None) == 0.0
