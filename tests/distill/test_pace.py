"""Threads are chosen by timed steps, and again when steps get slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from edgedistill.base.progress import Event, Note
from edgedistill.distill.pace import GAP, LOOKS, ROUNDS, Pace, thread_counts

TRIAL = 2 * ROUNDS * 2
"""Steps of a trial of two numbers of threads."""


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock that moves by what a step takes with the threads that torch has."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds, self.now, self.used = seconds, 0.0, list[int]()

    def __call__(self) -> float:
        return self.now

    def train(self, pace: Pace, steps: int) -> list[int]:
        used = []
        for _ in range(steps):
            with pace.step():
                used.append(torch.get_num_threads())
                self.now += self.seconds(used[-1])
        return used


def test_the_fastest_number_is_found_and_said() -> None:
    heard: list[Event] = []
    machine = Machine({2: 1.0, 1: 0.1}.__getitem__)
    pace = Pace((2, 1), heard.append, machine)
    assert machine.train(pace, TRIAL + 5)[TRIAL:] == [1] * 5
    (note,) = heard
    assert isinstance(note, Note)
    assert note.text == "training uses 1 of 2 threads: 1000 ms a step with 2, 100 ms a step with 1"


def test_what_is_paced_is_named() -> None:
    heard: list[Event] = []
    machine = Machine({2: 1.0, 1: 0.1}.__getitem__)
    machine.train(Pace((2, 1), heard.append, machine, work="labelling"), TRIAL)
    assert [event.text.split(":")[0] for event in heard if isinstance(event, Note)] == ["labelling uses 1 of 2 threads"]


def test_where_all_are_fastest_nothing_is_said() -> None:
    heard: list[Event] = []
    machine = Machine(lambda count: 1 / count)
    assert machine.train(Pace((4, 2, 1), heard.append, machine), 40)[-1] == 4
    assert heard == []


def test_they_are_found_again_when_a_neighbour_comes() -> None:
    heard: list[Event] = []
    machine = Machine(lambda count: 1 / count)
    pace = Pace((2, 1), heard.append, machine)
    machine.train(pace, TRIAL + GAP)
    machine.seconds = {2: 5.0, 1: 1.0}.__getitem__
    assert machine.train(pace, LOOKS + TRIAL + 1)[-1] == 1
    assert len(heard) == 1


def test_a_machine_that_is_slow_whatever_is_done_is_asked_less_and_less_often() -> None:
    machine = Machine(lambda count: 1 / count)
    pace = Pace((2, 1), lambda event: None, machine)
    machine.train(pace, TRIAL)
    machine.seconds = lambda count: 10.0 ** (len(used) // 200) / count
    used: list[int] = []
    for _ in range(1000):
        used += machine.train(pace, 1)
    assert used.count(1) < 0.05 * len(used)


def test_one_number_is_never_tried() -> None:
    machine = Machine(lambda count: 1.0)
    assert machine.train(Pace((1,), lambda event: None, machine), 50) == [1] * 50


def test_what_may_be_tried() -> None:
    torch.set_num_threads(6)
    assert thread_counts("auto", torch.device("cpu")) == (6, 3, 1)
    assert thread_counts("auto", torch.device("cuda")) == (6,)
    assert thread_counts(2, torch.device("cpu")) == (2,)
