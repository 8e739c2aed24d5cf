"""Plans, the registry, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import make_divisible

from edgedistill.base.errors import InputError
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.counting import structure_of
from edgedistill.networks.families.family import Place
from edgedistill.networks.families.registry import DEFAULT, FAMILIES, families, family
from edgedistill.networks.scaling import scaled_blocks, scaled_channels


@pytest.mark.parametrize(
    ("name", "width", "rate"),
    [("mobilenetv4", 1.0, 0.004), ("mobilenetv4", 0.25, 0.016), ("resnet", 0.0625, 0.032), ("vit", 0.5, 0.002)],
)
def test_a_rate_falls_with_the_width_and_is_no_higher_than_what_was_tried(name: str, width: float, rate: float) -> None:
    assert family(name).rate(StudentSpec(family=name, width=width, depth=0.5, resolution=28)) == rate


def test_the_documented_rates_are_those_of_the_families() -> None:
    page = (Path(__file__).parents[2] / "docs/explanation/distillation.md").read_text()
    told = dict(re.findall(r"(0\.\d+) for `(\w+)`", page))
    own = {f"{one.learning_rate:g}": one.name for one in FAMILIES.values() if one.learning_rate != 0.004}
    assert told == own and "It is 0.004\nfor most families" in page


def spec_of(name: str, **choices: Any) -> StudentSpec:
    return StudentSpec(family=name, width=0.5, depth=0.5, resolution=28, **choices)


@given(st.integers(8, 2048), st.floats(0.01, 8), st.sampled_from([1, 8, 16, 32]))
def test_channels_round_as_timm_rounds_them(channels: int, width: float, multiple: int) -> None:
    assert scaled_channels(channels, width, multiple) == make_divisible(channels * width, multiple)


@given(st.integers(1, 64), st.floats(0.1, 16), st.sampled_from([8, 16, 32]))
def test_timm_comes_to_the_hidden_channels_of_the_plan_by_multiplying(
    count: int, expansion: float, multiple: int
) -> None:
    channels = count * multiple
    place = Place(0, 0, channels, channels, 1, 3, expansion, multiple)
    assert (
        int(channels * place.ratio(channels))
        == place.hidden(channels)
        == make_divisible(place.ratio(channels) * channels)
    )
    assert place.hidden(channels) % multiple == 0


@given(st.integers(1, 20), st.floats(0.01, 8))
def test_blocks_are_at_least_one_and_within_half_a_block(blocks: int, depth: float) -> None:
    scaled = scaled_blocks(blocks, depth)
    assert scaled >= 1
    assert scaled == 1 or abs(scaled - blocks * depth) <= 0.5 + 1e-9


@pytest.mark.parametrize("name", FAMILIES)
@given(
    width=st.floats(0.05, 3),
    depth=st.floats(0.05, 3),
    resolution=st.integers(8, 256),
    multiple=st.sampled_from([8, 16, 32]),
)
def test_plans_have_whole_channels_and_a_block_a_stage(
    name: str, width: float, depth: float, resolution: int, multiple: int
) -> None:
    spec = StudentSpec(family=name, width=width, depth=depth, resolution=resolution, channel_multiple=multiple)
    plan = FAMILIES[name].plan(spec)
    channels = [plan.stem_channels, *plan.head_channels, *(stage.channels for stage in plan.stages)]
    assert all(count % multiple == 0 and count >= multiple for count in channels)
    assert all(stage.blocks >= 1 and stage.stride in (1, 2) for stage in plan.stages)
    places = list(plan.places())
    assert [p.inputs for p in places] == [plan.stem_channels, *(p.outputs for p in places[:-1])]
    assert len(places) == sum(stage.blocks for stage in plan.stages)


AXES = [(name, axis) for name, family in FAMILIES.items() for axis in ("kernel", "expansion") if family.choices(axis)]


def test_families_have_the_choices_that_their_blocks_allow() -> None:
    without = {axis: {n for n, f in FAMILIES.items() if not f.choices(axis)} for axis in ("kernel", "expansion")}
    assert without["kernel"] == {"repvgg", "repvit", "resnet", "efficientformerv2", "vit"}
    assert without["expansion"] == {"mobileone", "repvgg", "resnet"}


@pytest.mark.parametrize(("name", "axis"), AXES)
def test_a_kernel_or_an_expansion_is_in_the_network_that_comes_of_it(name: str, axis: str) -> None:
    """The figures rise with the value, a value of the family's own is the family's own network, and another one is not."""
    family = FAMILIES[name]
    own = family.plan(spec_of(name))
    stages = {getattr(stage, axis) for stage in own.stages} - {0}
    found = []
    for value in family.choices(axis):
        plan = family.plan(spec_of(name, **{axis: value}))
        assert (plan == own) == (stages == {value})
        found.append(structure_of(family.skeleton(plan, 10), 28).multiply_adds)
    assert found == sorted(set(found))
    assert {getattr(stage, axis) for stage in family.plan(spec_of(name, **{axis: 5})).stages} - {0} == {5}


@pytest.mark.parametrize(("axis", "value"), [("kernel", 3), ("expansion", 4.0)])
def test_what_a_family_lacks_is_refused_with_those_that_have_it(axis: str, value: float) -> None:
    with pytest.raises(InputError, match=f"resnet has no {axis} to choose .leave it out, or take .*mobilenetv3, "):
        FAMILIES["resnet"].plan(spec_of("resnet", **{axis: value}))


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
    code = "import sys, edgedistill.networks.families.registry; print({'torch', 'timm'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
