from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from edgedistill.base.errors import InputError
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.preprocessing import channel_statistics
from edgedistill.distill.teachers.load import load_teacher, weights_sha256
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.teachers import FitConfig, TeacherConfig
from edgedistill.networks.build import Normalised

FIT = FitConfig(epochs=1)
SOURCE = """
import torch
from torch import nn

def build(classes=10, side=8, broken=""):
    if broken == "raises":
        raise KeyError("no such width")
    if broken == "not a module":
        return {}
    head = nn.Linear(3 * side * side, classes)
    if broken == "not finite":
        nn.init.constant_(head.bias, float("nan"))
    if broken == "tuple":
        return Pair()
    return nn.Sequential(nn.Flatten(), head)

class Pair(nn.Module):
    def forward(self, x):
        return x, x
"""
Load = Callable[[TeacherConfig], Teacher]


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset(DataConfig())


@pytest.fixture
def load(digits: Dataset, tmp_path: Path) -> Load:
    (tmp_path / "digit_teacher.py").write_text(SOURCE)
    return lambda config: load_teacher(config, digits, DataConfig(), tmp_path)


def function(**arguments: object) -> TeacherConfig:
    return TeacherConfig.model_validate(
        {"model": "digit_teacher:build", "pretrained": True, "resolution": 8, "arguments": arguments}
    )


# -- timm ---------------------------------------------------------------------------------------------------------


def test_timm_at_a_small_resolution(load: Load, digits: Dataset) -> None:
    teacher = load(TeacherConfig(model="timm:test_resnet", resolution=32, fit=FIT))
    assert (teacher.contract.mean, teacher.contract.std) == channel_statistics(digits)
    assert teacher.contract.labels == digits.classes
    assert not teacher.module.training
    with torch.inference_mode():
        assert teacher.module(torch.full((2, 3, 32, 32), 255.0)).shape == (2, 10)


def test_timm_of_a_fixed_input_is_built_for_the_resolution(load: Load) -> None:
    assert load(TeacherConfig(model="timm:test_vit", resolution=32, fit=FIT)).contract.resolution == 32


def test_resolution_is_the_models_own_where_none_is_given(load: Load) -> None:
    own = timm.get_pretrained_cfg("test_resnet").input_size[-1]
    assert load(TeacherConfig(model="timm:test_resnet", fit=FIT)).contract.resolution == own


def test_checkpoint_of_timm(load: Load, tmp_path: Path) -> None:
    saved = timm.create_model("test_resnet", num_classes=10)
    save_file(saved.state_dict(), tmp_path / "w.safetensors")
    config = TeacherConfig(model="timm:test_resnet", resolution=32, checkpoint=tmp_path / "w.safetensors")
    assert weights_sha256(load(config).module.network) == weights_sha256(saved)


def test_stated_statistics_are_on_the_scale_of_model_cards(load: Load) -> None:
    config = TeacherConfig(model="timm:test_resnet", resolution=32, fit=FIT, mean=(0.5, 0.4, 0.2), std=(0.25, 0.5, 1))
    contract = load(config).contract
    assert contract.mean == pytest.approx((127.5, 102, 51))
    assert contract.std == pytest.approx((63.75, 127.5, 255))


def test_pretrained_weights_bring_their_own_statistics(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is built as timm would, without the download."""
    create = timm.create_model
    monkeypatch.setattr("edgedistill.networks.timm_weights._kept", lambda repository: None)
    monkeypatch.setattr(
        "edgedistill.networks.timm_weights.create_model", lambda name, pretrained, **rest: create(name, **rest)
    )
    teacher = load(TeacherConfig(model="timm:resnet10t", pretrained=True, resolution=32, fit=FIT))
    settings = timm.get_pretrained_cfg("resnet10t")
    assert teacher.contract.mean == pytest.approx([255 * m for m in settings.mean])
    assert teacher.contract.std == pytest.approx([255 * s for s in settings.std])


def test_a_wrong_name_gets_a_suggestion(load: Load) -> None:
    with pytest.raises(InputError, match="resnet_18") as caught:
        load(TeacherConfig(model="timm:resnet_18", fit=FIT))
    assert "resnet18" in caught.value.fix


def test_a_wrong_tag_gets_the_known_ones(load: Load) -> None:
    with pytest.raises(InputError, match="no weights tagged 'b9_in1k'") as caught:
        load(TeacherConfig(model="timm:resnet18.b9_in1k", pretrained=True))
    assert "resnet18.a1_in1k" in caught.value.fix


def test_no_network_is_an_error_with_a_way_out(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def offline(*_: object, **__: object) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 8s [Retry 5/5].")
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("edgedistill.networks.timm_weights._kept", lambda repository: None)
    monkeypatch.setattr("edgedistill.networks.timm_weights.create_model", offline)
    with pytest.raises(InputError, match="cannot be fetched: Name or service") as caught:
        load(TeacherConfig(model="timm:resnet18", pretrained=True, fit=FIT))
    assert "checkpoint" in caught.value.fix
    assert not caplog.records, "the error says it once"


def test_a_hub_that_does_not_answer_is_asked_once(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("edgedistill.networks.timm_weights.create_model", lambda *_, **__: asked.append(1))
    with pytest.raises(InputError, match="cannot be fetched: the hub does not answer"):
        load(TeacherConfig(model="timm:resnet18", pretrained=True, fit=FIT))
    assert not asked


def test_a_head_for_other_classes_needs_fitting(load: Load) -> None:
    with pytest.raises(InputError, match="trained for 1000 classes, and the data has 10") as caught:
        load(TeacherConfig(model="timm:resnet18", pretrained=True))
    assert "fit" in caught.value.problems[0].fix


def test_a_model_without_pretrained_weights(load: Load) -> None:
    with pytest.raises(InputError, match="no pretrained weights for resnet200"):
        load(TeacherConfig(model="timm:resnet200", pretrained=True, fit=FIT))


@pytest.mark.parametrize("arguments", [{"nonsense": 3}, {"num_classes": 12}, {"in_chans": 1}, {"checkpoint_path": "x"}])
def test_wrong_arguments(arguments: dict[str, int | str], load: Load) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        load(
            TeacherConfig.model_validate(
                {"model": "timm:test_resnet", "fit": {}, "resolution": 32, "arguments": arguments}
            )
        )


# -- module:function ----------------------------------------------------------------------------------------------


def test_function_beside_the_build_file(load: Load) -> None:
    teacher = load(function())
    assert teacher.name == "digit_teacher:build"
    assert teacher.parameters == 3 * 64 * 10 + 10


def test_two_folders_may_hold_modules_of_one_name(load: Load, digits: Dataset, tmp_path: Path) -> None:
    first = load(function())
    other = tmp_path / "other"
    other.mkdir()
    (other / "digit_teacher.py").write_text(SOURCE.replace("nn.Flatten(), head", "nn.Flatten(), head, nn.Softmax(1)"))
    second = load_teacher(function(), digits, DataConfig(), other)
    assert len(list(second.module.network)) == 3
    assert first.key != second.key


def test_an_edited_file_is_read_anew(load: Load, tmp_path: Path) -> None:
    load(function())
    (tmp_path / "digit_teacher.py").write_text(SOURCE.replace("classes=10", "classes=12"))
    with pytest.raises(InputError, match=r"returns \[1, 12\]"):
        load(function())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"broken": "raises"}, "failed with KeyError"),
        ({"wrong": 1}, "failed with TypeError"),
        ({"broken": "not a module"}, "returns dict, not a torch.nn.Module"),
        ({"broken": "not finite"}, "not finite"),
        ({"broken": "tuple"}, "returns tuple, not a tensor"),
        ({"classes": 7}, r"returns \[1, 7\] for one image, not \[1, 10\]"),
        ({"side": 9}, "fails on an image of 3 x 8 x 8"),
    ],
)
def test_functions_that_do_not_work(arguments: dict[str, object], message: str, load: Load) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(function(**arguments))
    assert caught.value.fix


def test_an_error_in_the_users_code_says_where(load: Load, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(function(broken="raises"))
    line = SOURCE.splitlines().index('        raise KeyError("no such width")') + 1
    assert f"{tmp_path / 'digit_teacher.py'}:{line}" in caught.value.fix
    (tmp_path / "digit_teacher.py").write_text("def build(:\n")
    with pytest.raises(InputError, match="SyntaxError") as caught:
        load(function())
    assert "digit_teacher.py:1" in caught.value.fix


def test_a_misspelt_function_gets_a_suggestion(load: Load) -> None:
    with pytest.raises(InputError, match="no function 'biuld'") as caught:
        load(function().model_copy(update={"model": "digit_teacher:biuld"}))
    assert "digit_teacher:build" in caught.value.fix


def test_a_function_does_not_know_its_resolution(load: Load) -> None:
    with pytest.raises(InputError, match="does not state the size of its input") as caught:
        load(function().model_copy(update={"resolution": None}))
    assert "resolution" in caught.value.fix


# -- trained at all, and which ------------------------------------------------------------------------------------


def test_a_random_teacher_is_refused(load: Load) -> None:
    with pytest.raises(InputError, match="random weights") as caught:
        load(TeacherConfig(model="timm:resnet18"))
    assert "fit" in caught.value.fix


def test_two_sources_of_weights_are_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both pretrained weights and a checkpoint"):
        load(TeacherConfig(model="timm:resnet18", pretrained=True, checkpoint=tmp_path / "w"))


@pytest.mark.parametrize("classes", [1000, 0])
def test_a_checkpoint_for_other_classes_is_fine_tuned_with_a_new_classifier(
    classes: int, load: Load, tmp_path: Path
) -> None:
    given, path = timm.create_model("test_resnet", num_classes=classes).state_dict(), tmp_path / "w.safetensors"
    save_file(given, path)
    config = TeacherConfig(model="timm:test_resnet", resolution=32, checkpoint=path)
    with pytest.raises(InputError, match="has no classifier for the classes of the data") as caught:
        load(config)
    assert "fit = {epochs = 10}" in caught.value.fix
    assert [problem.where for problem in caught.value.problems] == ["fc.weight", "fc.bias"]
    module = load(config.model_copy(update={"fit": FIT})).module
    assert isinstance(module, Normalised)
    own = module.network.state_dict()
    assert [name for name in own if name not in given or not torch.equal(own[name], given[name])] == [
        "fc.weight",
        "fc.bias",
    ]


def test_a_checkpoint_of_another_model_is_not_fine_tuned(load: Load, tmp_path: Path) -> None:
    given, path = timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "w.safetensors"
    del given["conv1.0.weight"]
    save_file(given, path)
    for fit in (None, FIT):
        with pytest.raises(InputError, match="is not of this model"):
            load(TeacherConfig(model="timm:test_resnet", resolution=32, checkpoint=path, fit=fit))


def test_a_fit_starts_from_the_seed(load: Load) -> None:
    config = TeacherConfig(model="timm:test_resnet", resolution=32, fit=FIT)
    before = torch.get_rng_state()
    one, same = load(config), load(config)
    other = load(config.model_copy(update={"fit": FitConfig(epochs=1, seed=1)}))
    assert one.key == same.key != other.key
    assert torch.equal(torch.get_rng_state(), before)


def test_the_key_follows_weights_and_input(load: Load, digits: Dataset, tmp_path: Path) -> None:
    saved = timm.create_model("test_resnet", num_classes=10).state_dict()
    path = tmp_path / "w.safetensors"
    config = TeacherConfig(model="timm:test_resnet", resolution=32, checkpoint=path)
    save_file(saved, path)
    keys = [load(config).key, load(config.model_copy(update={"resolution": 64})).key]
    saved["conv1.0.weight"][0, 0, 0, 0] += 1
    save_file(saved, path)
    keys.append(load(config).key)
    assert len(set(keys)) == 3


def test_normalisation_is_inside(load: Load, digits: Dataset, tmp_path: Path) -> None:
    teacher = load(function())
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (teacher.contract.mean, teacher.contract.std))
    image = np.random.default_rng(0).uniform(0, 255, (4, 3, 8, 8))
    with torch.inference_mode():
        inside = teacher.module(torch.from_numpy(image).float())
        outside = teacher.module.network(torch.from_numpy((image - mean) / std).float())
    torch.testing.assert_close(inside, outside, rtol=1e-4, atol=1e-4)
    fewer = replace(digits, classes=digits.classes[:9])
    with pytest.raises(InputError, match=r"not \[1, 9\]"):
        load_teacher(function(), fewer, DataConfig(), tmp_path)
