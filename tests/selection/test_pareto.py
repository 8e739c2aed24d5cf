"""The frontier: what nothing beats, and nothing else."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgedistill.selection.pareto import frontier

Point = tuple[float, float]
# Few distinct values, so that ties are common.
POINTS = st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(0, 5).map(lambda n: n / 5)), max_size=30)


def front(points: list[Point]) -> tuple[Point, ...]:
    return frontier(points, latency_ms=lambda p: p[0], quality=lambda p: p[1])


def beats(one: Point, other: Point) -> bool:
    """At least as good in both, better in one."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(POINTS)
def test_it_is_what_no_point_beats(points: list[Point]) -> None:
    assert set(front(points)) == {p for p in points if not any(beats(q, p) for q in points)}


@given(POINTS)
def test_latency_and_quality_rise_along_it(points: list[Point]) -> None:
    found = front(points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(found))


@given(POINTS, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(points: list[Point], draw: object) -> None:
    shuffled = points + points[:3]
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    assert front(shuffled) == front(points)
    assert front(list(front(points))) == front(points)


def test_of_equal_points_the_first_stays() -> None:
    points = [(1.0, 0.5, "first"), (1.0, 0.5, "second")]
    assert frontier(points, latency_ms=lambda p: p[0], quality=lambda p: p[1]) == (points[0],)
