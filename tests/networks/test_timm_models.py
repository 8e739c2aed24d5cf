"""Models of timm as students: as they are or cut, at a resolution, from random weights or a file's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from edgedistill.base.errors import InputError
from edgedistill.distill.start import StartWeights, load_start, start_of
from edgedistill.documents.build_file import SpaceConfig, load_config
from edgedistill.documents.specs import Contract, Format, Precision, StudentSpec, Target
from edgedistill.networks.build import build_student
from edgedistill.networks.counting import structure_of
from edgedistill.networks.cutting import cut
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.registry import families
from edgedistill.networks.space import enumerate_space
from edgedistill.networks.structure import Structure
from edgedistill.networks.timm_weights import pretrained_network

TARGET = Target(
    name="test",
    title="Test",
    runtime=Format.ONNX,
    formats=(Format.ONNX,),
    precisions=(Precision.FP32,),
    transport="local",
)
RESNET, VIT = "timm:test_resnet", "timm:test_vit"


def contract(side: int, classes: int = 10) -> Contract:
    labels = tuple(str(i) for i in range(classes))
    return Contract(resolution=side, mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0), labels=labels)


def spec_of(name: str, side: int) -> StudentSpec:
    return StudentSpec(family=name, width=1, depth=1, resolution=side)


def weights(folder: Path, classes: int) -> Path:
    """A checkpoint of test_resnet, as someone trained it."""
    torch.manual_seed(5)
    path = folder / "trained.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=classes).state_dict(), path)
    return path


def test_a_model_is_a_candidate_a_resolution_beside_the_families() -> None:
    config = SpaceConfig(models=(RESNET, VIT), resolutions=(32, 64), widths=(1.0,), depths=(1.0,))
    alone = enumerate_space(config, 10, None, TARGET).candidates
    assert [c.spec for c in alone] == [spec_of(name, side) for name in (RESNET, VIT) for side in (32, 64)]
    beside = enumerate_space(config.model_copy(update={"families": ("resnet",)}), 10, None, TARGET)
    assert {c.spec.family for c in beside.candidates} == {"resnet", RESNET, VIT}


@pytest.mark.parametrize("name", [RESNET, VIT])
def test_its_figures_are_those_of_the_deployed_student(name: str) -> None:
    config = SpaceConfig(models=(name,), resolutions=(32,), widths=(1.0,), depths=(1.0,))
    (candidate,) = enumerate_space(config, 10, None, TARGET).candidates
    student = build_student(candidate.spec, contract(32))
    assert structure_of(deploy(student), 32) == candidate.structure
    pixels = torch.rand(2, 3, 32, 32) * 255
    student.eval()
    with torch.no_grad():
        expected = student(pixels)
        assert torch.allclose(deploy(student)(pixels), expected, atol=1e-4 * float(expected.abs().max()))


def test_unknown_models_and_resolutions_that_do_not_do_are_told() -> None:
    with pytest.raises(InputError, match=r"timm has no model 'test_resnett' .did you mean test_resnet"):
        enumerate_space(SpaceConfig(models=("timm:test_resnett",)), 10, 8, TARGET)
    with pytest.raises(InputError, match=r"timm:test_vit cannot take images of 8 px: .*ask for other resolutions"):
        enumerate_space(SpaceConfig(models=(VIT,), resolutions=(8,)), 10, 8, TARGET)


def test_a_model_is_no_family_and_a_checkpoint_is_of_one_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="is no family; write it in models"):
        SpaceConfig(families=(RESNET,))
    with pytest.raises(ValidationError, match="which models does not"):
        SpaceConfig(checkpoints={RESNET: Path("a")})
    build = tmp_path / "build.toml"
    build.write_text(
        f'budget = "5ms"\n[teacher]\nmodel = "timm:resnet18"\n[space]\nmodels = ["{RESNET}"]\n'
        f'checkpoints = {{"{RESNET}" = "a.safetensors"}}\n'
    )
    assert load_config(build).space.checkpoints == {RESNET: tmp_path / "a.safetensors"}


def test_a_file_is_what_training_starts_from(tmp_path: Path) -> None:
    path = weights(tmp_path, classes=10)
    config = SpaceConfig(models=(RESNET,), checkpoints={RESNET: path})
    start = start_of(config, RESNET)
    assert start == StartWeights(RESNET, path)
    network = build_student(spec_of(RESNET, 32), contract(32)).network
    load_start(network, start, spec_of(RESNET, 32), contract(32), 0)
    torch.manual_seed(5)
    trained = timm.create_model("test_resnet", num_classes=10).state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())


def test_all_but_a_classifier_for_other_classes_is_the_files(tmp_path: Path) -> None:
    network = build_student(spec_of(RESNET, 32), contract(32)).network
    load_start(network, StartWeights(RESNET, weights(tmp_path, classes=1000)), spec_of(RESNET, 32), contract(32), 0)
    torch.manual_seed(5)
    trained = timm.create_model("test_resnet", num_classes=1000).state_dict()
    for name, value in network.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, trained[name])
    assert network.get_submodule("fc").weight.shape[0] == 10


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    network = build_student(spec_of(VIT, 32), contract(32)).network
    with pytest.raises(InputError, match="is not of this model"):
        load_start(network, StartWeights(VIT, weights(tmp_path, classes=10)), spec_of(VIT, 32), contract(32), 0)


def test_what_it_starts_from_is_told_apart_by_content(tmp_path: Path) -> None:
    path = weights(tmp_path, classes=10)
    config = SpaceConfig(models=(RESNET, VIT), checkpoints={RESNET: path})
    assert start_of(config, VIT) is None and start_of(config, "resnet") is None
    first = start_of(config, RESNET)
    assert first is not None
    before = first.identity
    save_file({"a": torch.zeros(1)}, path)
    assert first.identity != before
    path.unlink()
    with pytest.raises(InputError, match="is not a file"):
        start_of(config, RESNET)


def test_a_model_without_weights_in_timm_is_told() -> None:
    bare = next(n for n in timm.list_models("resnet*") if not timm.get_pretrained_cfg(n).has_weights)
    with pytest.raises(InputError, match=f"timm has no pretrained weights for {bare}"):
        pretrained_network(bare)


def test_what_is_left_of_a_file_is_what_a_cut_model_starts_from(tmp_path: Path) -> None:
    path, spec = weights(tmp_path, classes=10), spec_of(RESNET, 32).model_copy(update={"width": 0.5})
    network = build_student(spec, contract(32)).network
    load_start(network, StartWeights(RESNET, path), spec, contract(32), 0)
    torch.manual_seed(5)
    trained = cut(timm.create_model("test_resnet", num_classes=10), 0.5, 1, 32, 8).state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())


def test_a_new_classifier_is_drawn_from_the_seed(tmp_path: Path) -> None:
    start, found = StartWeights(RESNET, weights(tmp_path, classes=1000)), []
    for seed in (0, 0, 1):
        network = build_student(spec_of(RESNET, 32), contract(32)).network
        load_start(network, start, spec_of(RESNET, 32), contract(32), seed)
        found.append(network.get_submodule("fc").weight)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_transformer_takes_positions_of_another_resolution(tmp_path: Path) -> None:
    torch.manual_seed(5)
    trained, path = timm.create_model("test_vit", num_classes=10, img_size=160), tmp_path / "vit.safetensors"
    save_file(trained.state_dict(), path)
    network = build_student(spec_of(VIT, 32), contract(32)).network
    load_start(network, StartWeights(VIT, path), spec_of(VIT, 32), contract(32), 0)
    state = network.state_dict()
    assert state["pos_embed"].shape[1] < trained.pos_embed.shape[1]
    assert all(torch.equal(state[n], tensor) for n, tensor in trained.state_dict().items() if n != "pos_embed")


@pytest.mark.parametrize("name", [RESNET, VIT, "timm:mobilevit_xxs", "timm:efficientnet_lite0"])
@pytest.mark.parametrize("size", [0.5, 1.0])
def test_figures_at_several_resolutions_are_those_of_each(name: str, size: float) -> None:
    (family,) = families((name,))
    specs = [
        StudentSpec(family=name, width=1 if name == VIT else size, depth=size, resolution=side) for side in (32, 64)
    ]
    plans = [family.plan(spec) for spec in specs]

    def figures(networks: Iterable[torch.nn.Module]) -> list[Structure]:
        return [structure_of(network, plan.resolution) for network, plan in zip(networks, plans, strict=True)]

    together = figures(family.skeletons(plans, 10))
    assert together == figures(family.skeleton(plan, 10) for plan in plans)
    assert together[0].parameters == together[1].parameters or name == VIT
    assert together[0].multiply_adds < together[1].multiply_adds
