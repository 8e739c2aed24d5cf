"""The space: size, order, restrictions."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch

from edgedistill.base.errors import InputError
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.specs import Format, Precision, StudentSpec, Target
from edgedistill.networks.families.family import RESOLUTIONS, StudentPlan
from edgedistill.networks.families.registry import DEFAULT, FAMILIES
from edgedistill.networks.space import Candidate, Space, enumerate_space, largest_resolution, resolutions_for
from edgedistill.networks.threads import own_threads


def target(**changes: Any) -> Target:
    plain = Target(
        name="test",
        title="Test",
        runtime=Format.ONNX,
        formats=(Format.ONNX,),
        precisions=(Precision.FP32, Precision.INT8),
        transport="local",
    )
    return plain.model_copy(update=changes)


def candidates_of(config: SpaceConfig, classes: int, side: int | None, target: Target) -> tuple[Candidate, ...]:
    return enumerate_space(config, classes, side, target).candidates


def test_the_default_space_has_hundreds_of_distinct_candidates_of_every_family() -> None:
    candidates = candidates_of(SpaceConfig(), 10, 8, target())
    assert len(candidates) >= 200
    assert len({c.spec for c in candidates}) == len(candidates)
    assert {c.spec.family for c in candidates} == set(DEFAULT)
    assert {c.spec.resolution for c in candidates} == {8, 12, 16}


def test_specs_that_round_to_one_network_are_one_candidate() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.124, 0.125, 0.126), depths=(0.9, 1.0, 1.1), resolutions=(8,))
    candidates = candidates_of(config, 10, 8, target())
    assert [(c.spec.width, c.spec.depth) for c in candidates] == [(0.126, 1.0)]


def test_kernels_and_expansions_multiply_the_families_that_have_them() -> None:
    plain = SpaceConfig(families=("mobilenetv3", "mobileone", "resnet"), widths=(0.5,), depths=(0.5,), resolutions=(8,))
    assert [c.spec.kernel for c in candidates_of(plain, 10, 8, target())] == [None] * 3
    config = plain.model_copy(update={"kernels": (5, 3), "expansions": (4.0, 2.0)})
    found = [(c.spec.family, c.spec.kernel, c.spec.expansion) for c in candidates_of(config, 10, 8, target())]
    assert found == [
        ("mobilenetv3", 3, 2.0),
        ("mobilenetv3", 3, 4.0),
        ("mobilenetv3", 5, 2.0),
        ("mobilenetv3", 5, 4.0),
        ("mobileone", 3, None),
        ("mobileone", 5, None),
        ("resnet", None, None),
    ]


def test_values_for_a_choice_that_no_family_here_has_are_refused() -> None:
    config = SpaceConfig(families=("resnet", "repvgg"), kernels=(5,), expansions=(2.0,))
    with pytest.raises(InputError) as caught:
        candidates_of(config, 10, 8, target())
    assert [(p.where, p.what) for p in caught.value.problems] == [
        ("[space] kernels", "no family here (resnet, repvgg) has a choice of kernels"),
        ("[space] expansions", "no family here (resnet, repvgg) has a choice of expansions"),
    ]
    assert "mobileone" in caught.value.problems[0].fix and "mobileone" not in caught.value.problems[1].fix


def test_channels_are_multiples_of_what_the_target_likes() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.125, 0.1875, 0.25), depths=(0.5,), resolutions=(8,))
    eights, sixteens = (candidates_of(config, 10, 8, target(channel_multiple=m)) for m in (8, 16))
    assert [c.spec.label for c in eights] == ["resnet w0.125 d0.5 @8", "resnet w0.1875 d0.5 @8", "resnet w0.25 d0.5 @8"]
    assert [c.spec.label for c in sixteens] == [
        "resnet w0.125 d0.5 m16 @8",
        "resnet w0.1875 d0.5 m16 @8",
        "resnet w0.25 d0.5 m16 @8",
    ]
    assert eights[0].parameters < sixteens[0].parameters


def test_figures_grow_with_width_depth_and_resolution() -> None:
    def one(width: float, depth: float, resolution: int) -> tuple[int, int, int]:
        config = SpaceConfig(families=("mobileone",), widths=(width,), depths=(depth,), resolutions=(resolution,))
        (candidate,) = candidates_of(config, 10, None, target())
        return candidate.parameters, candidate.multiply_adds, candidate.activation_bytes

    parameters, work, activations = one(0.5, 0.5, 32)
    assert one(1.0, 0.5, 32) > (parameters, work, activations)
    assert one(0.5, 1.0, 32)[0] > parameters and one(0.5, 1.0, 32)[1] > work
    sharper = one(0.5, 0.5, 40)
    assert sharper[0] == parameters and sharper[1] > work and sharper[2] > activations


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (8, (8, 12, 16)),
        (28, (16, 24, 28, 32, 48)),
        (64, (32, 48, 64, 96, 128)),
        (500, (128, 160, 192, 224)),
        (None, (128, 160, 192, 224)),
        (4, (8, 12, 16)),
    ],
)
def test_resolutions_suit_the_source(side: int | None, expected: tuple[int, ...]) -> None:
    assert resolutions_for(RESOLUTIONS, side) == expected


@pytest.mark.parametrize("side", [8, 50, 500, None])
@pytest.mark.parametrize("resolutions", [(), (40, 9)])
def test_the_largest_resolution_is_that_of_all_candidates(side: int | None, resolutions: tuple[int, ...]) -> None:
    config = SpaceConfig(families=("vit", "resnet"), widths=(0.25,), depths=(0.5,), resolutions=resolutions)
    candidates = candidates_of(config, 10, side, target())
    assert largest_resolution(config, side) == max(candidate.spec.resolution for candidate in candidates)


def test_resolutions_that_the_user_names_stand() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.125,), depths=(0.5,), resolutions=(40, 9))
    assert [c.spec.resolution for c in candidates_of(config, 10, 8, target())] == [9, 40]


def test_too_few_parameters_allowed_names_the_restriction_and_the_smallest() -> None:
    config = SpaceConfig(widths=(0.5,), depths=(0.5,), resolutions=(8,), max_parameters=1000)
    with pytest.raises(
        InputError,
        match=r"max_parameters: 1,000 parameters at most leaves none of 3 .*the smallest here has",
    ):
        candidates_of(config, 10, 8, target())


def test_memory_counts_at_the_smallest_precision_worth_trying() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.5,), depths=(0.5,), resolutions=(8,))
    (candidate,) = candidates_of(config, 10, 8, target())
    fp32_bytes = candidate.structure.weights_bytes + candidate.activation_bytes
    assert candidates_of(config, 10, 8, target(memory_bytes=fp32_bytes // 4)) == (candidate,)
    with pytest.raises(InputError, match=r"target test, memory_bytes: .* at most leaves none of 1 candidates"):
        candidates_of(config, 10, 8, target(memory_bytes=fp32_bytes // 4, precisions=(Precision.FP32,)))


def test_restrictions_keep_those_that_pass() -> None:
    config = SpaceConfig(families=("resnet",), depths=(0.5,), resolutions=(8,))
    everything = candidates_of(config, 10, 8, target())
    limit = sorted(c.parameters for c in everything)[2]
    kept = candidates_of(config.model_copy(update={"max_parameters": limit}), 10, 8, target())
    assert kept == tuple(c for c in everything if c.parameters <= limit)
    assert 0 < len(kept) < len(everything)


def test_an_unknown_family_is_named_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"unknown family 'mobileon' \(did you mean mobileone"):
        candidates_of(SpaceConfig(families=("mobileon",)), 10, 8, target())


def test_what_is_left_out_is_counted_with_its_reason() -> None:
    config = SpaceConfig(families=("resnet",), depths=(0.5,), resolutions=(8,))
    everything = candidates_of(config, 10, 8, target())
    parameters = sorted(c.parameters for c in everything)
    most_bytes = parameters[4] + 1  # int8: a byte each
    limited = config.model_copy(update={"max_parameters": parameters[5], "max_bytes": most_bytes})
    space = enumerate_space(limited, 10, 8, target())
    assert space.candidates == everything[:5]
    assert list(space.dropped.values()) == [len(everything) - 6, 1]
    first, second = space.dropped
    assert first == f"more than {parameters[5]:,} parameters" and second.endswith("of weights")
    assert space.sentence == f"5 candidates; left out: 2 with {first}, 1 with {second}"
    assert Space.model_validate_json(space.model_dump_json()) == space
    assert Space(candidates=everything).sentence == f"{len(everything)} candidates"


def test_the_size_is_that_of_the_smallest_precision_worth_trying() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.5,), depths=(0.5,), resolutions=(8,))
    (candidate,) = candidates_of(config, 10, 8, target())
    for precision, count in (
        (Precision.FP32, candidate.parameters * 4),
        (Precision.FP16, candidate.parameters * 2),
        (Precision.INT8_WEIGHTS, candidate.parameters),
        (Precision.INT4_WEIGHTS, candidate.parameters // 2),
    ):
        here = target(precisions=(precision,))
        assert enumerate_space(config.model_copy(update={"max_bytes": count}), 10, 8, here).candidates == (candidate,)
        with pytest.raises(InputError, match=r"max_bytes: .* of weights at most leaves none of 1 candidates"):
            enumerate_space(config.model_copy(update={"max_bytes": count - 1}), 10, 8, here)


def test_activations_of_a_file_with_small_weights_alone_are_in_full() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.5,), depths=(0.5,), resolutions=(8,))
    here = target(precisions=(Precision.INT8_WEIGHTS,))
    (candidate,) = candidates_of(config, 10, 8, here)
    needed = candidate.parameters + candidate.activation_bytes
    assert candidates_of(config, 10, 8, here.model_copy(update={"memory_bytes": needed})) == (candidate,)
    with pytest.raises(InputError, match="of weights and activations at most"):
        candidates_of(config, 10, 8, here.model_copy(update={"memory_bytes": needed - 1}))


def test_a_map_that_collapses_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the families here plans one: a third party's may."""

    def halving(spec: StudentSpec) -> StudentPlan:
        plan = FAMILIES["resnet"].make_plan(spec)
        return replace(plan, stages=tuple(replace(stage, stride=2) for stage in plan.stages))

    family = replace(FAMILIES["resnet"], make_plan=halving)
    monkeypatch.setattr("edgedistill.networks.space.families", lambda names: (family,))
    config = SpaceConfig(widths=(0.125,), depths=(0.5,), resolutions=(16, 32, 64))
    space = enumerate_space(config, 10, None, target())
    assert [c.spec.resolution for c in space.candidates] == [64]
    assert space.dropped == {"a feature map below 3x3": 2}
    with pytest.raises(InputError, match=r"resolutions: each of 1 candidates has a feature map below 3x3"):
        enumerate_space(config.model_copy(update={"resolutions": (16,)}), 10, None, target())


def test_the_garbage_collector_is_left_as_it_was() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.125,), depths=(0.5,), resolutions=(8,))
    impossible = replace(FAMILIES["resnet"], assemble=lambda plan, classes, merged: 1 // 0)
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            candidates_of(config, 10, 8, target())
            assert gc.isenabled() is enabled
            with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
                patch.setattr("edgedistill.networks.space.families", lambda names: (impossible,))
                candidates_of(config, 10, 8, target())
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_networks_are_counted_by_one_thread_and_torch_has_its_own_ones_after() -> None:
    config = SpaceConfig(families=("resnet",), widths=(0.125,), depths=(0.5,), resolutions=(8,))
    seen: list[int] = []

    def assemble(plan: StudentPlan, classes: int, merged: bool) -> torch.nn.Module:
        seen.append(torch.get_num_threads())
        return FAMILIES["resnet"].assemble(plan, classes, merged)

    watched = replace(FAMILIES["resnet"], assemble=assemble)
    with own_threads(3), pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgedistill.networks.space.families", lambda names: (watched,))
        assert len(candidates_of(config, 10, 8, target())) == 1
        assert torch.get_num_threads() == 3
    assert set(seen) == {1}
