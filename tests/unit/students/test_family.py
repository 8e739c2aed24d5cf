"""Plans, the registry, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import make_divisible

from edgedistill.errors import InputError
from edgedistill.students.families import DEFAULT, FAMILIES, families, family
from edgedistill.students.family import scaled_blocks, scaled_channels


@given(st.integers(8, 2048), st.floats(0.01, 8))
def test_channels_round_as_timm_rounds_them(channels: int, width: float) -> None:
    assert scaled_channels(channels, width) == make_divisible(channels * width)


@given(st.integers(1, 20), st.floats(0.01, 8))
def test_blocks_are_at_least_one_and_within_half_a_block(blocks: int, depth: float) -> None:
    scaled = scaled_blocks(blocks, depth)
    assert scaled >= 1
    assert scaled == 1 or abs(scaled - blocks * depth) <= 0.5 + 1e-9


@pytest.mark.parametrize("name", FAMILIES)
@given(width=st.floats(0.05, 3), depth=st.floats(0.05, 3), resolution=st.integers(8, 256))
def test_plans_have_whole_channels_and_a_block_a_stage(name: str, width: float, depth: float, resolution: int) -> None:
    plan = FAMILIES[name].plan(width, depth, resolution)
    channels = [plan.stem_channels, *plan.head_channels, *(stage.channels for stage in plan.stages)]
    assert all(count % 8 == 0 and count >= 8 for count in channels)
    assert all(stage.blocks >= 1 and stage.stride in (1, 2) for stage in plan.stages)


def test_an_unknown_family_comes_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="did you mean mobilenetv4"):
        family("mobilenet_v4")
    with pytest.raises(InputError) as caught:
        families(["resnet", "zzz", "mobileon"])
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].fix.endswith(", ".join(FAMILIES))


def test_no_names_are_the_default_ones_and_repeated_names_one() -> None:
    assert tuple(f.name for f in families([])) == DEFAULT
    assert set(DEFAULT) <= set(FAMILIES)
    assert len(families(["resnet", "resnet"])) == 1


def test_the_registry_imports_no_torch() -> None:
    code = "import sys, edgedistill.students.families; print({'torch', 'timm'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
