"""The frontier of accuracy against latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def frontier(points: Iterable[T], *, latency_ms: Callable[[T], float], quality: Callable[[T], float]) -> tuple[T, ...]:
    """The points that no other beats: faster at no less quality, or more accurate at no more latency. Sorted by latency;
    of points equal in both, the first stays."""
    best: list[T] = []
    for point in sorted(points, key=lambda p: (latency_ms(p), -quality(p))):
        if not best or quality(point) > quality(best[-1]):
            best.append(point)
    return tuple(best)
