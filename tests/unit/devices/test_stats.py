"""Percentiles, the acceptance rule and proofs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import make_environment
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from edgedistill.artifacts import Profile, Session
from edgedistill.devices.stats import acceptance_rank, measured_latency, percentile_ms, proof, samples_needed
from edgedistill.errors import TrialFailure
from edgedistill.specs import Budget, Percentile, Precision


def session(samples_ns: list[int], reference_us: float | None = None) -> Session:
    return Session(
        samples_ns=tuple(samples_ns),
        warmup_runs=10,
        load_ms=1.0,
        peak_memory_bytes=1,
        model_memory_bytes=1,
        drift=0.0,
        noisy=False,
        reference_us=reference_us,
    )


def profile(*sessions: list[int]) -> Profile:
    return Profile(
        artifact_sha256="a",
        target="host",
        precision=Precision.FP32,
        environment=make_environment(),
        sessions=tuple(map(session, sessions)),
        op_timings=(),
    )


@pytest.mark.parametrize(
    ("samples", "rank"), [(59, 59), (200, 196), (300, 292), (500, 484), (1000, 962), (58, None), (0, None)]
)
def test_published_ranks_for_p95(samples: int, rank: int | None) -> None:
    assert acceptance_rank(samples, 0.95) == rank


@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.sampled_from([0.9, 0.95, 0.99]))
def test_rank_is_the_smallest_that_scipy_confirms(samples: int, fraction: float, confidence: float) -> None:
    rank = acceptance_rank(samples, fraction, confidence)
    if rank is None:
        assert binom.cdf(samples - 1, samples, fraction) < confidence
    else:
        assert binom.cdf(rank - 1, samples, fraction) >= confidence - 1e-9
        assert binom.cdf(rank - 2, samples, fraction) < confidence + 1e-9


def test_bound_covers_the_true_quantile_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    rank = acceptance_rank(200, 0.95)
    assert rank is not None
    bounds = np.sort(generator.exponential(size=(20_000, 200)), axis=1)[:, rank - 1]
    covered = float((bounds >= -math.log(0.05)).mean())
    exact = float(binom.cdf(rank - 1, 200, 0.95))
    assert exact >= 0.95
    assert covered == pytest.approx(exact, abs=0.006)


@pytest.mark.parametrize(("fraction", "needed"), [(0.5, 5), (0.95, 59), (0.99, 299)])
def test_samples_needed(fraction: float, needed: int) -> None:
    assert samples_needed(fraction) == needed
    assert acceptance_rank(needed - 1, fraction) is None


@pytest.mark.parametrize("arguments", [(-1, 0.95), (10, 0.0), (10, 1.0), (10, float("nan"))])
def test_nonsense_is_refused(arguments: tuple[int, float]) -> None:
    with pytest.raises(ValueError):
        acceptance_rank(*arguments)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
def test_percentile_is_a_sample_that_enough_do_not_exceed(samples: list[int], percent: int) -> None:
    value = percentile_ms(samples, percent / 100)
    ordered = sorted(samples)
    rank = max(1, -(-percent * len(ordered) // 100))
    assert value == ordered[rank - 1] / 1e6


def test_latency_of_several_sessions_is_not_that_of_the_slowest() -> None:
    quick, slow = [1_000_000] * 100, [3_000_000] * 100
    latency = measured_latency(profile(quick, quick, slow))
    assert (latency.p50_ms, latency.p99_ms) == (1.0, 1.0)
    assert latency.samples == 300
    assert latency.device == "board"


def budget(latency_ms: float, percentile: Percentile = Percentile.P95) -> Budget:
    return Budget(latency_ms=latency_ms, percentile=percentile)


def test_proof_takes_the_order_statistic_of_every_session() -> None:
    samples = [*range(1_000_000, 1_000_200)]
    one = session(samples[::-1])
    met = proof([one, one, one.model_copy(update={"set_aside": 7})], budget(1.000196), 2.0, "hash")
    assert met.ranks == (196, 196, 196)
    assert met.bounds_ms == (1.000195,) * 3
    assert met.met
    assert (met.sessions, met.samples_per_session, met.pause_s, met.artifact_sha256) == (3, (200,) * 3, 2.0, "hash")
    assert met.set_aside_per_session == (0, 0, 7)


def test_one_session_outside_the_budget_is_no_proof() -> None:
    inside, outside = session([1_000_000] * 200), session([1_000_000] * 195 + [2_000_000] * 5)
    assert proof([inside] * 3, budget(1.5), 0.0, "h").met
    assert not proof([inside, outside, inside], budget(1.5), 0.0, "h").met


def test_empirical_p95_inside_the_budget_is_not_enough() -> None:
    samples = [1_000_000] * 192 + [2_000_000] * 8
    assert percentile_ms(samples, 0.95) <= 1.5
    assert not proof([session(samples)], budget(1.5), 0.0, "h").met


def test_too_few_samples_are_named() -> None:
    with pytest.raises(TrialFailure, match=r"session 2 has 200 samples; p99 needs at least 299"):
        proof([session([1] * 300), session([1] * 200)], budget(1.0, Percentile.P99), 0.0, "h")
    with pytest.raises(ValueError):
        proof([], budget(1.0), 0.0, "h")


def at_speed(*references_us: float | None) -> Profile:
    sessions = tuple(session([1_500_000] * 60, reference_us) for reference_us in references_us)
    return profile([1]).model_copy(update={"sessions": sessions})


def test_a_figure_taken_on_a_slower_processor_is_compared_at_the_speed_of_the_teacher() -> None:
    latency = measured_latency(at_speed(15.0, 15.5, 14.0), 10.0)
    assert latency.reference_us == 15.0
    assert latency.slowdown == pytest.approx(1.5)
    assert latency.at(Percentile.P95) == 1.5, "what was measured stays as it was measured"
    assert latency.comparable(Percentile.P95) == pytest.approx(1.0)


@pytest.mark.parametrize("references", [(11.5, 8.5), (None,)])
@pytest.mark.parametrize("wanted_us", [10.0, None])
def test_within_what_a_session_tolerates_or_unknown_nothing_is_corrected(
    references: tuple[float | None, ...], wanted_us: float | None
) -> None:
    latency = measured_latency(at_speed(*references), wanted_us)
    assert latency.slowdown == 1.0
    assert latency.comparable(Percentile.P50) == latency.at(Percentile.P50) == 1.5
