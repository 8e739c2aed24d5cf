"""The rule of where maps halve."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.networks.families.strides import MAX_HALVINGS, halvings, map_sides, strides


@pytest.mark.parametrize(
    ("resolution", "last_map"),
    [(8, 4), (12, 3), (16, 4), (28, 4), (32, 4), (48, 3), (64, 4), (96, 3), (128, 4), (160, 5), (224, 7)],
)
def test_the_last_map_is_about_four_below_128_px_and_a_thirtysecond_above(resolution: int, last_map: int) -> None:
    assert map_sides(resolution, strides(resolution))[-1] == last_map


@given(st.integers(8, 1024))
def test_no_map_collapses_and_only_first_places_lose_their_stride(resolution: int) -> None:
    steps = strides(resolution)
    assert len(steps) == MAX_HALVINGS
    assert list(steps) == sorted(steps)
    assert min(map_sides(resolution, steps)) >= 3


@given(st.integers(8, 1023))
def test_halvings_never_fall_as_the_input_grows(resolution: int) -> None:
    assert halvings(resolution) <= halvings(resolution + 1)


def test_too_few_places_is_refused() -> None:
    with pytest.raises(ValueError, match="5 halvings, the network has 4 places"):
        strides(224, 4)
