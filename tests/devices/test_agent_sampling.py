"""Warm-up and samples, on a clock that only runs move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.devices.agent import agent_sampling
from edgedistill.devices.agent.agent_sampling import (
    BURST_RUNS,
    HARD_LIMIT_FACTOR,
    WARMUP_RUNS,
    WARMUP_S,
    take_samples,
    warm_up,
)


class Clock:
    """Time passes in runs alone. `order` says which model ran."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.order: list[int] = []
        self.lengths_ns: list[list[int]] = []
        patch.setattr(agent_sampling.time, "perf_counter", lambda: self.now_ns / 1e9)

    def model(self, *latencies_ns: int) -> agent_sampling.Timed:
        """A model whose runs take these times over and over."""
        place = len(self.lengths_ns)
        taken: list[int] = []
        self.lengths_ns.append(taken)

        def run() -> int:
            duration_ns = latencies_ns[len(taken) % len(latencies_ns)]
            self.now_ns += duration_ns
            self.order.append(place)
            taken.append(duration_ns)
            return duration_ns

        return run

    @property
    def now_s(self) -> float:
        return self.now_ns / 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_one_model_runs_back_to_back_for_its_seconds(clock: Clock) -> None:
    taken = take_samples([clock.model(1_000_000)], 2.0, 1, 0.005)
    assert len(taken.samples_ns[0]) == 2000
    assert taken.turns == [[2000]]
    assert clock.now_s == pytest.approx(2.0)


def test_every_run_is_kept_in_order_however_slow(clock: Clock) -> None:
    run = clock.model(1_000_000, 7_000_000, 400_000_000, 2_000_000)
    taken = take_samples([run], 3.0, 1, 0.005)
    assert taken.samples_ns == clock.lengths_ns, "nothing is set aside"
    assert 400_000_000 in taken.samples_ns[0]


def test_two_models_run_in_turn_for_a_burst_each(clock: Clock) -> None:
    taken = take_samples([clock.model(96_000), clock.model(230_000)], 1.0, 1, 0.005)
    assert set(map(tuple, taken.turns)) == {(53, 22)}, "5 ms of each, and the run that was going on"
    first, second = clock.order[:53], clock.order[53:75]
    assert (set(first), set(second)) == ({0}, {1})
    assert clock.now_s == pytest.approx(1.0, abs=0.011)


def test_a_burst_has_five_runs_at_least_of_models_that_are_slower_than_it(clock: Clock) -> None:
    taken = take_samples([clock.model(4_000_000), clock.model(96_000)], 1.0, 1, 0.005)
    assert set(map(tuple, taken.turns)) == {(BURST_RUNS, 53)}


def test_bursts_of_no_length_have_five_runs(clock: Clock) -> None:
    taken = take_samples([clock.model(100_000), clock.model(100_000)], 0.1, 1, 0.0)
    assert set(map(tuple, taken.turns)) == {(BURST_RUNS, BURST_RUNS)}


def test_sampling_goes_on_until_there_are_runs_enough(clock: Clock) -> None:
    taken = take_samples([clock.model(10_000_000)], 0.2, 60, 0.005)
    assert 60 <= len(taken.samples_ns[0]) < 60 + BURST_RUNS
    assert 0.6 <= clock.now_s < 0.8, "no longer than they take"


def test_of_two_models_the_slower_one_has_runs_enough_too(clock: Clock) -> None:
    taken = take_samples([clock.model(100_000), clock.model(20_000_000)], 1.0, 60, 0.005)
    assert 60 <= len(taken.samples_ns[1]) < 60 + BURST_RUNS
    assert len(taken.samples_ns[0]) > 60


def test_sampling_never_goes_on_past_four_times_its_seconds(clock: Clock) -> None:
    taken = take_samples([clock.model(20_000_000)], 0.05, 60, 0.005)
    assert len(taken.samples_ns[0]) == 10
    assert clock.now_s == pytest.approx(HARD_LIMIT_FACTOR * 0.05)


def test_a_model_slower_than_the_hard_limit_runs_once(clock: Clock) -> None:
    taken = take_samples([clock.model(9_000_000_000)], 0.5, 60, 0.005)
    assert taken == ([[9_000_000_000]], [[1]])


def test_beside_a_model_slower_than_the_hard_limit_the_other_still_runs(clock: Clock) -> None:
    taken = take_samples([clock.model(9_000_000_000), clock.model(1_000_000)], 0.5, 60, 0.005)
    assert [len(samples_ns) for samples_ns in taken.samples_ns] == [1, 1]
    assert taken.turns == [[1, 1]]


latencies = st.lists(st.integers(1_000, 300_000_000), min_size=1, max_size=5)


@given(
    models=st.lists(latencies, min_size=1, max_size=2),
    seconds=st.floats(0.01, 0.3),
    min_runs=st.integers(1, 80),
    burst_s=st.sampled_from([0.0, 0.001, 0.005, 0.02]),
)
def test_what_is_told_is_what_ran(models: list[list[int]], seconds: float, min_runs: int, burst_s: float) -> None:
    """Whatever the models do: every run is there, turns add up to them, the least is had or the hard limit was reached."""
    models = [[max(latency_ns, 20_000) for latency_ns in model] for model in models]
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        taken = take_samples([clock.model(*model) for model in models], seconds, min_runs, burst_s)
    assert taken.samples_ns == clock.lengths_ns
    for place, samples_ns in enumerate(taken.samples_ns):
        assert sum(turn[place] for turn in taken.turns) == len(samples_ns) >= 1
    enough = all(len(samples_ns) >= min_runs for samples_ns in taken.samples_ns)
    limit_s = HARD_LIMIT_FACTOR * seconds
    assert clock.now_s >= seconds - 1e-9
    assert enough or clock.now_s >= limit_s - 1e-9
    slowest_s = max(max(model) for model in models) / 1e9
    assert clock.now_s <= limit_s + len(models) * slowest_s + 1e-9, (
        "no run begins past the hard limit but the other's one"
    )
    full = [turn for turn in taken.turns[:-1] if len(models) == 2]
    assert all(runs >= BURST_RUNS for turn in full for runs in turn)


def test_warm_up_takes_its_time_of_each(clock: Clock) -> None:
    expected = [round(WARMUP_S * 1000), round(WARMUP_S * 20)]
    assert warm_up([clock.model(1_000_000), clock.model(50_000_000)]) == expected[0]
    assert [len(lengths_ns) for lengths_ns in clock.lengths_ns] == expected
    assert clock.now_s == pytest.approx(2 * WARMUP_S)


def test_warm_up_of_a_slow_model_has_three_runs(clock: Clock) -> None:
    assert warm_up([clock.model(5_000_000_000)]) == WARMUP_RUNS == len(clock.lengths_ns[0])


def test_warm_up_tells_the_runs_of_the_first(clock: Clock) -> None:
    assert warm_up([clock.model(5_000_000_000), clock.model(1_000_000)]) == WARMUP_RUNS
