"""Samples at one speed of the processor: on a made-up clock, and the arithmetic that tells the speed."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from edgedistill.devices import agent_sampling as agent

QUIET_US = 20.0
REPEAT_NS = 20_000


class Machine:
    """A processor on a clock of its own: runs take `latency_ns` times what `slowdown` says of the seconds since the start,
    and so does the reference."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, latency_ns: int, slowdown: Callable[[float], float] = lambda s: 1.0
    ) -> None:
        self.latency_ns, self.slowdown, self.now_ns = latency_ns, slowdown, 0
        monkeypatch.setattr(agent.time, "perf_counter_ns", lambda: self.now_ns)
        monkeypatch.setattr(agent, "reference_us", self.reference_us)

    @property
    def now_s(self) -> float:
        return self.now_ns / 1e9

    def run(self, feed: Any) -> None:
        self.now_ns += round(self.latency_ns * self.slowdown(self.now_s))

    def reference_us(self, repeats: int) -> float:
        factor = self.slowdown(self.now_s)
        self.now_ns += round(REPEAT_NS * repeats * factor)
        return QUIET_US * factor

    def sample(
        self, samples: int, seconds: float, least: int = 60, wanted_us: float | None = QUIET_US, wait_s: float = 0.0
    ) -> agent.Samples:
        return agent.take_samples(self.run, [{}], samples, seconds, least, wanted_us, wait_s)


def by_turns(seconds: float, factor: float = 1.4) -> Callable[[float], float]:
    """A neighbour that comes for so long and goes for so long, there at the beginning."""
    return lambda now_s: factor if int(now_s / seconds) % 2 == 0 else 1.0


def test_sampling_ends_at_max_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(Machine(monkeypatch, 1_000_000).sample(25, 10.0).samples_ns) == 25


def test_sampling_goes_on_until_the_acceptance_rule_has_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 10_000_000)
    assert machine.sample(1000, 0.2, least=60).samples_ns == [10_000_000] * 60


def test_sampling_never_exceeds_four_times_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 20_000_000)
    assert len(machine.sample(1000, 0.05, least=60).samples_ns) == 10
    assert machine.now_s < 0.3


def test_sampling_cycles_through_the_feeds_with_the_collector_off() -> None:
    seen: list[tuple[int, bool]] = []
    feeds = [{"x": 1}, {"x": 2}]
    agent.take_samples(
        lambda feed: seen.append((feed["x"], gc.isenabled())), feeds, 5, 10.0, 5, agent.reference_us(), 0.0
    )
    assert [value for value, _ in seen][:5] == [1, 2, 1, 2, 1]
    assert not any(enabled for _, enabled in seen)
    assert gc.isenabled()


def test_what_ran_beside_a_neighbour_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 2_000_000, by_turns(0.7))
    taken = machine.sample(1000, 1.0)
    assert set(taken.samples_ns) == {2_000_000}
    assert sum(taken.samples_ns) / 1e9 >= 1.0, "as many as without a neighbour"
    assert set(taken.references_us) == {QUIET_US}
    assert taken.set_aside > 100
    assert taken.waited_s == 0.0, "no longer than a session may take anyway"


def test_visits_of_ten_milliseconds_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Machine(monkeypatch, 100_000, by_turns(0.01)).sample(1000, 1.0)
    assert len(taken.samples_ns) == 1000
    assert sum(sample > 100_000 for sample in taken.samples_ns) == 0
    assert taken.set_aside > 500


def test_the_speed_asked_for_may_be_the_slower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Machine(monkeypatch, 2_000_000, by_turns(0.7)).sample(200, 1.0, wanted_us=1.4 * QUIET_US)
    assert set(taken.samples_ns) == {2_800_000}
    assert len(taken.samples_ns) == 200


def test_without_a_speed_asked_for_it_is_the_one_kept_a_quarter_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first profile of a build: a tiny model has all its samples within the neighbour's first visit."""
    taken = Machine(monkeypatch, 200_000, by_turns(0.4)).sample(1000, 2.0, wanted_us=None)
    assert taken.samples_ns == [200_000] * 1000
    rarely = Machine(monkeypatch, 200_000, lambda now_s: 0.6 if 0.5 < now_s < 0.65 else 1.0)
    assert set(rarely.sample(1000, 2.0, wanted_us=None).samples_ns) == {200_000}, "not a moment's clock"


def test_a_first_second_beside_a_neighbour_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Machine(monkeypatch, 2_000_000, lambda now_s: 1.4 if now_s < 1.3 else 1.0).sample(1000, 2.0, wanted_us=None)
    assert set(taken.samples_ns) == {2_000_000}
    assert len(taken.samples_ns) == 1000


def test_a_processor_that_has_become_another_one_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 2_000_000, lambda now_s: 1.4)
    taken = machine.sample(1000, 1.0)
    assert set(taken.samples_ns) == {2_800_000}
    assert set(taken.references_us) == {1.4 * QUIET_US}, "which tells that it was another speed"
    assert taken.set_aside == 0
    assert 1.0 <= machine.now_s < 1.3, "it does not look for ever for a speed that is never seen"


def test_it_waits_for_the_speed_as_long_as_it_may_and_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_until = lambda end_s: lambda now_s: 1.4 if now_s < end_s else 1.0  # noqa: E731
    late = Machine(monkeypatch, 2_000_000, slow_until(6.0)).sample(1000, 1.0, wait_s=8.0)
    assert set(late.samples_ns) == {2_000_000}
    assert 1.0 < late.waited_s < 6.0
    too_late = Machine(monkeypatch, 2_000_000, slow_until(60.0))
    assert set(too_late.sample(1000, 1.0, wait_s=8.0).samples_ns) == {2_800_000}
    assert 9.0 <= too_late.now_s < 10.0


def test_a_long_wait_takes_no_memory_that_would_be_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes beside a neighbour, of a model that runs ten thousand times a second."""
    machine = Machine(monkeypatch, 100_000, lambda now_s: 1.4 if now_s < 120 else 1.0)
    machine.run({})
    tracemalloc.start()
    try:
        taken = machine.sample(1000, 1.0, wait_s=180.0)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken.samples_ns == [100_000] * 1000
    assert taken.set_aside > 700_000
    assert peak_bytes < 3e6


def test_where_no_speed_lasts_all_samples_count_and_their_speeds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 30_000_000, by_turns(0.13, 2.0))
    taken = machine.sample(1000, 0.5, least=60)
    assert set(taken.samples_ns) == {30_000_000, 60_000_000}
    assert set(taken.references_us) == {QUIET_US, 2 * QUIET_US}
    assert taken.set_aside == 0


def test_warm_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "WARMUP_TOLERANCE", -1.0)
    monkeypatch.setattr(agent, "WARMUP_LIMIT_S", 0.1)
    began = time.perf_counter()
    assert agent.warm_up(lambda feed: time.sleep(0.002), [{}]) >= 3
    assert time.perf_counter() - began < 5


def test_warm_up_ends_when_two_windows_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "WARMUP_WINDOW_S", 0.0)
    clock = SimpleNamespace(now_ns=0)
    costs_ns = iter([9_000_000] * 10 + [5_000_000] * 10 + [5_050_000] * 10 + [5_000_000] * 100)
    monkeypatch.setattr(agent.time, "perf_counter_ns", lambda: clock.now_ns)
    monkeypatch.setattr(agent.time, "perf_counter", lambda: clock.now_ns / 1e9)

    def run(feed: Any) -> None:
        clock.now_ns += next(costs_ns)

    assert agent.warm_up(run, [{}]) == 30


class Processor:
    """Takes `line_ns` for each line of `agent.reference_us`, and nothing for what is outside of it; `agent` reads its clock.
    Every `hiccup`th line takes a thousand times as long, as where another process had its turn."""

    def __init__(self, line_ns: int, hiccup: int | None = None) -> None:
        self.line_ns, self.hiccup = line_ns, hiccup
        self.lines, self.now_ns = 0, 0

    def reference_us(self, monkeypatch: pytest.MonkeyPatch) -> float:
        before = sys.gettrace()
        with monkeypatch.context() as patched:
            patched.setattr(agent.time, "perf_counter_ns", lambda: self.now_ns)
            sys.settrace(self._call)
            try:
                return agent.reference_us()
            finally:
                sys.settrace(before)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code is agent.reference_us.__code__ else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            self.now_ns += self.line_ns * (1000 if self.hiccup and self.lines % self.hiccup == 0 else 1)
        return self._line


def test_the_reference_is_slower_on_a_slower_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Processor(line_ns=10).reference_us(monkeypatch)
    slow = Processor(line_ns=27).reference_us(monkeypatch)
    least = agent.REFERENCE_ROUNDS + agent.REFERENCE_PRODUCTS
    assert slow == pytest.approx(2.7 * fast)
    assert fast > least * 10 / 1e3, "all of the arithmetic counts, in us"


def test_a_longer_piece_of_arithmetic_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "REFERENCE_ROUNDS", 2000)
    long = Processor(line_ns=10).reference_us(monkeypatch)
    monkeypatch.setattr(agent, "REFERENCE_ROUNDS", 200)
    assert long > 3 * Processor(line_ns=10).reference_us(monkeypatch) > 0


def test_a_few_interruptions_do_not_move_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = Processor(line_ns=10, hiccup=10_007)
    assert processor.reference_us(monkeypatch) == Processor(line_ns=10).reference_us(monkeypatch)
    assert processor.lines > 10 * 10_007, "it was interrupted"


def test_a_session_waits_for_the_speed_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([11.0, 11.5, 12.1, 10.3])
    monkeypatch.setattr(agent, "reference_us", lambda: next(speeds))
    monkeypatch.setattr(agent, "REFERENCE_POLL_S", 0.001)
    assert 0 < agent.await_speed(8.6, 5.0) < 1
    assert next(speeds, None) is None, "it looked until the speed was within a fifth"


def test_a_faster_processor_is_waited_out_too_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "reference_us", lambda: 5.8)
    monkeypatch.setattr(agent, "REFERENCE_POLL_S", 0.01)
    assert 0.05 <= agent.await_speed(11.2, 0.05) < 0.5
    assert agent.await_speed(5.5, 5.0) == 0.0
    assert agent.await_speed(None, 5.0) == 0.0
