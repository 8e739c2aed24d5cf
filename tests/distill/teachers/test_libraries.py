"""Teachers of transformers and open_clip: small ones with random weights, written to disk as their libraries do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from library_models import MEAN, NAMES, SMALL, STD, saved, saved_clip, vectors
from safetensors.torch import save_file
from torch.nn import functional as F

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.distill.teachers import places
from edgedistill.distill.teachers.identity import require_weights, teacher_identity
from edgedistill.distill.teachers.load import load_teacher, resolution_of
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.teachers import FitConfig, TeacherConfig
from edgedistill.networks.deploy import deploy
from edgedistill.networks.program.program import reference_logits, to_program

FIT = FitConfig(epochs=1)
Load = Callable[..., Teacher]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(DataConfig())


@pytest.fixture
def load(digits: Dataset, tmp_path: Path) -> Load:
    def found(**settings: Any) -> Teacher:
        return load_teacher(TeacherConfig(**settings), digits, DataConfig(), tmp_path)

    return found


def images(side: int) -> torch.Tensor:
    return 255 * torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def normalised(pixels: torch.Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> torch.Tensor:
    return (pixels / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


# -- transformers ---------------------------------------------------------------------------------------------------

pytest.importorskip("transformers", reason="needs transformers: pip install 'edgedistill[transformers]'")


@pytest.mark.parametrize("kind", ["vit", "convnext", "swin", "dinov2"])
def test_a_folder_of_transformers_answers_as_the_library_does(load: Load, tmp_path: Path, kind: str) -> None:
    model = saved(tmp_path / "model", kind)
    teacher = load(model="transformers:./model", pretrained=True)
    assert teacher.contract.resolution == 32
    assert teacher.contract.mean == pytest.approx([255 * level for level in MEAN])
    assert teacher.contract.std == pytest.approx([255 * level for level in STD])
    with torch.no_grad():
        expected = model(pixel_values=normalised(images(32))).logits
        torch.testing.assert_close(teacher.module(images(32)), expected, rtol=1e-4, atol=1e-4)
    assert teacher.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_its_program_is_exported(load: Load, tmp_path: Path, kind: str) -> None:
    saved(tmp_path / "model", kind)
    teacher = load(model="transformers:model", pretrained=True)
    program = to_program(deploy(teacher.module), teacher.contract)
    pixels = images(32).to(torch.uint8)
    with torch.no_grad():
        expected = teacher.module(pixels[:1].float())
        torch.testing.assert_close(program.module()(pixels[:1].float()), expected, rtol=1e-4, atol=1e-4)
    assert reference_logits(deploy(teacher.module), pixels.numpy()).shape == (3, 10)


def test_another_size_than_it_was_trained_at(load: Load, tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    teacher = load(model="transformers:model", pretrained=True, resolution=48)
    with torch.no_grad():
        expected = model(pixel_values=normalised(images(48)), interpolate_pos_encoding=True).logits
        torch.testing.assert_close(teacher.module(images(48)), expected, rtol=1e-4, atol=1e-4)


def test_its_classes_are_put_into_the_order_of_the_data(load: Load, tmp_path: Path) -> None:
    model = saved(tmp_path / "model", names=NAMES[::-1])
    teacher = load(model="transformers:model", pretrained=True)
    with torch.no_grad():
        expected = model(pixel_values=normalised(images(32))).logits.flip(1)
        torch.testing.assert_close(teacher.module(images(32)), expected, rtol=1e-4, atol=1e-4)


def test_other_classes_ask_for_a_fit_which_gives_a_new_classifier(load: Load, tmp_path: Path) -> None:
    saved(tmp_path / "model", names=("a", "b", "c"))
    with pytest.raises(InputError, match="trained for 3 classes, and the data has 10") as caught:
        load(model="transformers:model", pretrained=True)
    assert "fit" in caught.value.fix
    one, two = (load(model="transformers:model", pretrained=True, fit=FIT) for _ in range(2))
    assert one.module(images(32)).shape == (3, 10)
    assert one.key == two.key, "the new classifier is drawn from the seed"


def test_weights_of_another_network_are_refused(load: Load, tmp_path: Path) -> None:
    saved(tmp_path / "model")
    save_file({"nothing": torch.zeros(1)}, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    for fit in (None, FIT):
        with pytest.raises(InputError, match="has no weights for"):
            load(model="transformers:model", pretrained=True, fit=fit)


def test_without_pretrained_it_is_trained_from_random_weights(load: Load, tmp_path: Path) -> None:
    saved(tmp_path / "model")
    teacher = load(model="transformers:model", fit=FIT, resolution=32)
    trained = load(model="transformers:model", pretrained=True)
    assert teacher.key != trained.key and teacher.parameters == trained.parameters


@pytest.mark.parametrize(
    ("said", "side", "mean"),
    [
        ({"size": 40, "image_mean": MEAN, "image_std": STD}, 40, 127.5),
        ({"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": True, "do_normalize": False}, 32, 0.0),
        ({"size": {"height": 24, "width": 48}, "do_normalize": False}, 32, 0.0),
    ],
)
def test_what_the_image_processor_says_is_kept(
    load: Load, tmp_path: Path, said: dict[str, Any], side: int, mean: float
) -> None:
    saved(tmp_path / "model", processor=said)
    contract = load(model="transformers:model", pretrained=True).contract
    assert (contract.resolution, contract.mean[0]) == (side, pytest.approx(mean))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "transformers:./absent", "pretrained": True}, "does not exist"),
        ({"model": "transformers:model", "checkpoint": Path("x.pt")}, "has its weights in its folder"),
        ({"model": "transformers:model/config.json", "pretrained": True}, "is a file, not a folder"),
        ({"model": "transformers:empty", "pretrained": True}, "transformers cannot build empty"),
    ],
)
def test_what_cannot_be_loaded_is_an_input_error(load: Load, tmp_path: Path, settings: Any, told: str) -> None:
    saved(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=told):
        load(**settings)


def test_the_resolution_is_told_without_weights(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert resolution_of(TeacherConfig(model="transformers:model", pretrained=True), 10, tmp_path) == 32


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_a_library_that_is_not_installed_is_named(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        places.require_library(library)
    assert library.replace("_", "-") in caught.value.fix


# -- open_clip ------------------------------------------------------------------------------------------------------

open_clip = pytest.importorskip("open_clip", reason="needs open_clip: pip install 'edgedistill[open-clip]'")


def test_text_vectors_make_an_image_tower_a_classifier(load: Load, tmp_path: Path) -> None:
    clip = saved_clip(tmp_path / "clip")
    text = torch.from_numpy(vectors(tmp_path / "text.npy"))
    teacher = load(model="open_clip:./clip", pretrained=True, text_vectors=tmp_path / "text.npy")
    assert teacher.contract.resolution == 32 and teacher.contract.mean[0] == pytest.approx(127.5)
    with torch.no_grad():
        image = clip.encode_image(normalised(images(32)), normalize=True)
        expected = clip.logit_scale.exp() * image @ F.normalize(text, dim=-1).T
        torch.testing.assert_close(teacher.module(images(32)), expected, rtol=1e-4, atol=1e-3)
    assert teacher.parameters < sum(p.numel() for p in clip.parameters()), "without the text encoder"


def test_vectors_by_name_are_taken_in_the_order_of_the_classes(load: Load, tmp_path: Path) -> None:
    saved_clip(tmp_path / "clip")
    rows = vectors(tmp_path / "text.npy")
    np.savez(tmp_path / "text.npz", **{name: rows[int(name)] for name in NAMES[::-1]})
    one, two = (
        load(model="open_clip:clip", pretrained=True, text_vectors=tmp_path / f"text.{suffix}")
        for suffix in ("npy", "npz")
    )
    assert one.key == two.key
    np.savez(tmp_path / "few.npz", **{"0": rows[0]})
    with pytest.raises(InputError, match="no vector for 1, 2"):
        load(model="open_clip:clip", pretrained=True, text_vectors=tmp_path / "few.npz")


def test_a_tower_without_text_gets_a_classifier_by_fit(load: Load, tmp_path: Path) -> None:
    clip = saved_clip(tmp_path / "clip")
    with pytest.raises(InputError, match="has no classifier") as caught:
        load(model="open_clip:clip", pretrained=True)
    assert "text_vectors" in caught.value.fix and "fit" in caught.value.fix
    teacher = load(model="open_clip:clip", pretrained=True, fit=FIT)
    with torch.no_grad():
        features = clip.encode_image(normalised(images(32)))
        head: Any = teacher.module.network.head  # type: ignore[union-attr]
        torch.testing.assert_close(teacher.module(images(32)), head(features), rtol=1e-4, atol=1e-4)


def test_the_weights_of_a_built_in_model_may_come_from_a_file(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = saved_clip(tmp_path / "clip")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "Small-8.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(tmp_path / "configs")
    torch.save({"state_dict": {f"module.{k}": v for k, v in clip.state_dict().items()}}, tmp_path / "clip.pt")
    text = torch.from_numpy(vectors(tmp_path / "text.npy"))
    teacher = load(model="open_clip:Small-8", checkpoint=tmp_path / "clip.pt", text_vectors=tmp_path / "text.npy")
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    with torch.no_grad():
        image = clip.encode_image(normalised(images(32), mean, std), normalize=True)
        expected = clip.logit_scale.exp() * image @ F.normalize(text, dim=-1).T
        torch.testing.assert_close(teacher.module(images(32)), expected, rtol=1e-4, atol=1e-3)


def test_its_program_is_exported_too(load: Load, tmp_path: Path) -> None:
    saved_clip(tmp_path / "clip")
    vectors(tmp_path / "text.npy")
    teacher = load(model="open_clip:clip", pretrained=True, text_vectors=tmp_path / "text.npy", resolution=48)
    program = to_program(deploy(teacher.module), teacher.contract)
    with torch.no_grad():
        got, expected = program.module()(images(48)[:1]), teacher.module(images(48)[:1])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "told", "fix"),
    [
        (
            {"model": "open_clip:ViT-B-32", "pretrained": True, "fit": FIT},
            "which of its weights",
            "open_clip:ViT-B-32/TAG",
        ),
        ({"model": "open_clip:ViT-Z-99", "fit": FIT}, "no model 'ViT-Z-99'", "list_models"),
        (
            {"model": "open_clip:./clip", "pretrained": True, "text_vectors": "wide.npy"},
            "needs \\[10, 16\\]",
            "each class",
        ),
        (
            {"model": "open_clip:./clip", "pretrained": True, "text_vectors": "zero.npy"},
            "not a finite vector",
            "float array",
        ),
        ({"model": "open_clip:./clip", "pretrained": True, "text_vectors": "text.txt"}, "cannot be read", "numpy.save"),
    ],
)
def test_what_cannot_be_used_is_an_input_error(
    load: Load, tmp_path: Path, settings: dict[str, Any], told: str, fix: str
) -> None:
    saved_clip(tmp_path / "clip")
    vectors(tmp_path / "wide.npy", width=24)
    np.save(tmp_path / "zero.npy", np.zeros((10, 16), np.float32))
    (tmp_path / "text.txt").write_text("no array")
    if "text_vectors" in settings:
        settings = {**settings, "text_vectors": tmp_path / settings["text_vectors"]}
    with pytest.raises(InputError, match=told) as caught:
        load(**settings)
    assert fix in caught.value.fix


def test_text_vectors_are_for_towers_alone() -> None:
    with pytest.raises(ValueError, match="text_vectors are compared with an image tower"):
        TeacherConfig(model="timm:resnet18", pretrained=True, text_vectors=Path("x.npy"))


# -- both -----------------------------------------------------------------------------------------------------------


def test_they_are_told_from_others_by_all_that_their_folders_hold(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    saved_clip(tmp_path / "clip")
    vectors(tmp_path / "text.npy")
    for config in (
        TeacherConfig(model="transformers:model", pretrained=True),
        TeacherConfig(model="open_clip:clip", pretrained=True, text_vectors=tmp_path / "text.npy"),
    ):
        require_weights(config)
        before = teacher_identity(config, tmp_path)
        assert json.loads(json.dumps(before)) == before == teacher_identity(config, tmp_path)
        name = config.model.partition(":")[2]
        weights = next((tmp_path / name).glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        assert teacher_identity(config, tmp_path) != before
    changed = teacher_identity(config, tmp_path)
    vectors(tmp_path / "text.npy", rows=11)
    assert teacher_identity(config, tmp_path) != changed
