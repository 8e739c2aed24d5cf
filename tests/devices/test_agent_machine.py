"""What the agent tells of the machine, read from files that a test has made; and which processors a session takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.base.errors import InputError
from edgedistill.devices.agent import agent_machine
from edgedistill.devices.local import pick_cpus
from edgedistill.documents.measurements import Core, Moment

CPU = "/sys/devices/system/cpu/cpu"


def files(patch: pytest.MonkeyPatch, texts: Mapping[str, str]) -> None:
    """The system has these files and no others."""
    patch.setattr(agent_machine, "read_text", lambda path: texts.get(path, ""))


def machine(
    patch: pytest.MonkeyPatch, siblings: Sequence[str], capacities: Sequence[int] = (), allowed: Sequence[int] = ()
) -> None:
    """A machine of so many processors, as Linux describes it."""
    texts = {f"{CPU}{cpu}/topology/thread_siblings_list": text for cpu, text in enumerate(siblings)}
    texts |= {f"{CPU}{cpu}/cpu_capacity": str(capacity) for cpu, capacity in enumerate(capacities)}
    files(patch, texts)
    patch.setattr(agent_machine, "allowed_cpus", lambda: list(allowed or range(len(siblings))))


# -- the processor's name ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' files")
@pytest.mark.parametrize(
    ("cpuinfo", "told"),
    [
        ("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n", "AMD EPYC (family 26, model 2)"),
        ("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n", "AMD EPYC (family 25, model 17)"),
        ("Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n", "BCM2835"),
    ],
)
def test_generations_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, told: str) -> None:
    files(monkeypatch, {"/proc/cpuinfo": cpuinfo})
    assert agent_machine.processor() == told == agent_machine.facts()["processor"]


# -- cores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "siblings"),
    [("0-1", [0, 1]), ("0,4", [0, 4]), ("0", [0]), ("0-2,8-9", [0, 1, 2, 8, 9]), ("", [7])],
    ids=["range", "list", "alone", "both", "not told"],
)
def test_siblings_of_a_core(monkeypatch: pytest.MonkeyPatch, text: str, siblings: list[int]) -> None:
    files(monkeypatch, {f"{CPU}7/topology/thread_siblings_list": text})
    found = Core.model_validate(agent_machine.core(7))
    assert (found.cpu, list(found.siblings), found.capacity) == (7, siblings, None)


def test_capacity_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    files(monkeypatch, {f"{CPU}0/cpu_capacity": "446"})
    assert agent_machine.core(0)["capacity"] == 446


@pytest.mark.parametrize(("threads", "chosen"), [(1, (3,)), (2, (2, 3)), (3, (1, 2, 3)), (4, (0, 1, 2, 3))])
def test_without_siblings_the_last_are_taken_first(
    monkeypatch: pytest.MonkeyPatch, threads: int, chosen: tuple[int, ...]
) -> None:
    machine(monkeypatch, ["0", "1", "2", "3"])
    assert pick_cpus(threads) == chosen


@pytest.mark.parametrize(
    "siblings", [("0-1", "0-1", "2-3", "2-3"), ("0,2", "1,3", "0,2", "1,3")], ids=["side by side", "apart"]
)
def test_one_of_each_core_comes_before_a_second_of_any(
    monkeypatch: pytest.MonkeyPatch, siblings: Sequence[str]
) -> None:
    machine(monkeypatch, siblings)
    two, three = pick_cpus(2), pick_cpus(3)
    cores = [set(agent_machine.core(cpu)["siblings"]) for cpu in two]
    assert not cores[0] & cores[1], "two threads on one core would share its units"
    assert len(three) == 3 and set(two) <= set(three)


def test_the_largest_cores_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone: four small cores, three larger, one largest, numbered as vendors please."""
    machine(monkeypatch, [str(cpu) for cpu in range(8)], [1024, 446, 446, 446, 446, 871, 871, 871])
    assert pick_cpus(1) == (0,)
    assert pick_cpus(3) == (0, 6, 7)
    assert pick_cpus(5) == (0, 4, 5, 6, 7)


def test_a_large_cores_second_thread_comes_before_a_small_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large cores with two threads each beside small ones with one."""
    machine(monkeypatch, ["0-1", "0-1", "2-3", "2-3", "4", "5"], [1024] * 4 + [600] * 2)
    assert pick_cpus(2) == (1, 3)
    assert pick_cpus(4) == (0, 1, 2, 3)
    assert pick_cpus(5) == (0, 1, 2, 3, 5)


def test_a_sibling_that_the_process_may_not_use_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ["0-1", "0-1", "2-3", "2-3"], allowed=(0, 1, 2))
    assert pick_cpus(2) == (1, 2)
    with pytest.raises(InputError, match="this process may use 3") as caught:
        pick_cpus(4)
    assert "threads = 3" in caught.value.fix


@given(
    cores=st.lists(st.tuples(st.integers(1, 2), st.sampled_from([400, 700, 1024])), min_size=1, max_size=6),
    threads=st.integers(1, 12),
)
def test_no_smaller_core_is_taken_while_a_larger_one_is_free(cores: list[tuple[int, int]], threads: int) -> None:
    siblings: list[str] = []
    capacities: list[int] = []
    for count, capacity in cores:
        first = len(siblings)
        siblings += [f"{first}-{first + count - 1}" if count > 1 else str(first)] * count
        capacities += [capacity] * count
    threads = min(threads, len(siblings))
    with pytest.MonkeyPatch.context() as patch:
        machine(patch, siblings, capacities)
        chosen = pick_cpus(threads)
    assert len(set(chosen)) == threads and list(chosen) == sorted(chosen)
    left = set(range(len(siblings))) - set(chosen)
    assert not left or min(capacities[cpu] for cpu in chosen) >= max(capacities[cpu] for cpu in left)
    alike = [{cpu for cpu in range(len(siblings)) if siblings[cpu] == text} for text in dict.fromkeys(siblings)]
    for core in alike:
        untouched = [c for c in alike if not c & set(chosen) and capacities[min(c)] == capacities[min(core)]]
        assert len(core & set(chosen)) < 2 or not untouched, "a second thread before a core of its own"


# -- moments --------------------------------------------------------------------------------------------------------


def test_a_moment_of_this_machine() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    found = Moment.model_validate(agent_machine.moment(agent_machine.allowed_cpus()))
    at = datetime.fromisoformat(found.at)
    assert before <= at <= datetime.now(UTC)
    assert at.utcoffset() == timedelta(0)
    assert found.reference_us is not None and 1 < found.reference_us < 10_000
    assert found.load is not None and found.load >= 0


STAT = """cpu  1 2 3 4 5 6 7 900 0 0
cpu0 1 2 3 4 5 6 7 50 0 0
cpu1 1 2 3 4 5 6 7 20 0 0
cpu10 1 2 3 4 5 6 7 800 0 0
intr 1 2"""


def test_a_moments_counters_are_of_the_processors_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/self/schedstat": "123 4500000 99",
        "/proc/stat": STAT,
        f"{CPU}1/cpufreq/scaling_cur_freq": "1500000",
    }
    files(monkeypatch, texts)
    found = Moment.model_validate(agent_machine.moment([1, 0]))
    ticks = os.sysconf("SC_CLK_TCK")
    assert found.stolen_ms == pytest.approx(70 * 1000 / ticks), "of processors 0 and 1, not of 10, not of all"
    assert (found.waited_ms, found.clock_mhz) == (4.5, 1500.0)


def test_what_a_system_does_not_tell_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    files(monkeypatch, {})
    found: dict[str, Any] = agent_machine.moment([])
    assert {name for name, value in found.items() if value is None} == {
        "clock_mhz",
        "waited_ms",
        "stolen_ms",
    }
    assert Moment.model_validate(found).reference_us is not None


def test_the_reference_grows_with_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_machine, "REFERENCE_ROUNDS", 500)
    short = agent_machine.reference_us()
    monkeypatch.setattr(agent_machine, "REFERENCE_ROUNDS", 20_000)
    assert agent_machine.reference_us() > 8 * short


def test_the_reference_is_a_median_that_an_interruption_does_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([time for n in range(15) for time in (n * 10**9, n * 10**9 + (5_000 if n % 3 else 900_000))])
    monkeypatch.setattr(agent_machine.time, "perf_counter_ns", lambda: next(clock))
    assert agent_machine.reference_us() == 5.0


@pytest.mark.parametrize(
    ("printed", "governor", "told"),
    [
        ("NV Power Mode: MAXN\n0\n", "schedutil", "MAXN, schedutil"),
        ("NV Power Mode: 15W\n2\n", "", "15W"),
        ("NVPM ERROR: permission denied\n", "schedutil", "schedutil"),
    ],
)
def test_a_jetsons_power_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, governor: str, told: str
) -> None:
    program = tmp_path / "nvpmodel"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -q ] && printf '{printed}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(agent_machine, "NVPMODEL", str(program))
    files(monkeypatch, {f"{CPU}0/cpufreq/scaling_governor": governor})
    assert agent_machine.power_mode(0) == told
