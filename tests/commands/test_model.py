"""A torch.export program as a model: what it takes and gives is read off it, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from library_models import MEAN, STD, saved_clip, vectors
from library_models import saved as saved_transformer
from torch import Tensor, nn

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.commands import model as sources
from edgedistill.commands.export_files import file_stem
from edgedistill.commands.model import open_model
from edgedistill.commands.requests import ModelSettings, require_openable


class Network(nn.Module):
    """Float images [1, 3, 16, 16] to what `give` makes of their three means."""

    def __init__(self, give: Any) -> None:
        super().__init__()
        self.give = give
        self.features = nn.Conv2d(3, 3, 3)

    def forward(self, image: Tensor) -> Any:
        return self.give(self.features(image).mean((2, 3)))


def saved(path: Path, give: Any = lambda means: means) -> Path:
    torch.export.save(torch.export.export(Network(give).eval(), (torch.zeros(1, 3, 16, 16),)), path)
    return path


def test_the_classes_are_known_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(module: nn.Module, image: Tensor) -> Tensor:
        raise AssertionError("the program was run in this process")

    monkeypatch.setattr(sources.Normalised, "forward", run)
    source, notes = open_model(str(saved(tmp_path / "model.pt2")), ModelSettings(), tmp_path)
    assert source.contract.labels == ("0", "1", "2")
    assert source.contract.resolution == 16
    assert any("pixels go in as 0..255" in note for note in notes)


def test_the_program_still_computes(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt2")
    source, _ = open_model(str(path), ModelSettings(), tmp_path)
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(source.load()(image), torch.export.load(path).module()(image))


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda means: (means, means), "one tensor of logits"),
        (lambda means: means[0], "one tensor of logits"),
        (lambda means: means.reshape(3, 1), "one tensor of logits"),
        (lambda means: means[:, :0], "tells 0 classes apart"),
        (
            lambda means: means[:, :1].expand(1, 10**7),
            "tells 10,000,000 classes apart; a classifier has 1 to 1,000,000",
        ),
    ],
    ids=["two outputs", "no batch", "a batch of three", "no classes", "ten million classes"],
)
def test_what_gives_no_logits_is_refused_with_a_way_out(tmp_path: Path, give: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_model(str(saved(tmp_path / "model.pt2", give)), ModelSettings(), tmp_path)
    assert caught.value.fix


def pixels(side: int) -> Tensor:
    return torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(0)).float()


def normalised(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (image / 255 - mean) / std


def test_a_model_of_transformers_is_opened_as_it_says_of_itself(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = saved_transformer(tmp_path / "vit", names=("ant", "bee", "cat"))
    name, settings = "transformers:./vit", ModelSettings()
    require_openable(name, settings, (), tmp_path, "exported")
    source, notes = open_model(name, settings, tmp_path)
    assert source.contract.labels == ("ant", "bee", "cat") and source.contract.resolution == 32
    assert source.contract.mean == pytest.approx([255 * value for value in MEAN])
    assert source.contract.std == pytest.approx([255 * value for value in STD])
    assert notes == ()
    with torch.no_grad():
        found, expected = source.load()(pixels(32)), model(pixel_values=normalised(pixels(32))).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    random, notes = open_model(name, ModelSettings(random_weights=True), tmp_path)
    assert "weights are random" in notes[0] and random.key != source.key
    (tmp_path / "vit" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"\./vit cannot be loaded by transformers") as caught:
        open_model(name, settings, tmp_path)
    assert "name a folder that holds its weights" in caught.value.fix and "--checkpoint" not in caught.value.fix


def test_a_library_without_a_name_is_told_as_an_option_is(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        require_openable("transformers:", ModelSettings(), (), tmp_path, "exported")
    assert caught.value.message.startswith("model: 'transformers:' is not a model; write timm:NAME")


def test_an_image_tower_of_open_clip_has_text_vectors_for_its_classifier(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    clip, name = saved_clip(tmp_path / "clip"), "open_clip:./clip"
    rows = torch.from_numpy(vectors(tmp_path / "vectors.npy", rows=4))
    settings = ModelSettings(text_vectors=tmp_path / "vectors.npy")
    require_openable(name, settings, (), tmp_path, "exported")
    source, _ = open_model(name, settings, tmp_path)
    assert source.contract.labels == ("0", "1", "2", "3") and source.contract.resolution == 32
    with torch.no_grad():
        features = clip.encode_image(normalised(pixels(32)), normalize=True)
        expected = clip.logit_scale.exp() * features @ nn.functional.normalize(rows, dim=1).T
        torch.testing.assert_close(source.load()(pixels(32)), expected, rtol=1e-3, atol=1e-3)
    (tmp_path / "labels.txt").write_text("ant\nbee\n")
    named = {"bee": rows[1].numpy(), "ant": rows[0].numpy()}
    np.savez(tmp_path / "named.npz", **named)
    settings = ModelSettings(text_vectors=tmp_path / "named.npz", labels=tmp_path / "labels.txt")
    two, _ = open_model(name, settings, tmp_path)
    assert two.contract.labels == ("ant", "bee")
    with torch.no_grad():
        torch.testing.assert_close(two.load()(pixels(32)), expected[:, :2], rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match="has its vectors by name"):
        open_model(name, ModelSettings(text_vectors=tmp_path / "named.npz"), tmp_path)
    with pytest.raises(InputError, match="has no classifier") as caught:
        require_openable(name, ModelSettings(), (), tmp_path, "exported")
    assert "--text-vectors FILE" in caught.value.fix
    assert open_model(name, ModelSettings(random_weights=True, classes=5), tmp_path)[0].contract.labels[-1] == "4"


def test_a_library_that_is_not_there_and_a_checkpoint_of_transformers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vit").mkdir()
    with pytest.raises(InputError, match="has its weights in its folder"):
        settings = ModelSettings(checkpoint=tmp_path / "weights.pt")
        require_openable("transformers:./vit", settings, (), tmp_path, "exported")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs the package open_clip") as caught:
        require_openable("open_clip:ViT-B-32/openai", ModelSettings(), (), tmp_path, "exported")
    assert "open-clip" in caught.value.fix


@pytest.mark.parametrize(
    ("label", "stem"),
    [
        ("timm:resnet18", "resnet18"),
        ("transformers:./models/vit", "models_vit"),
        ("transformers:../vit", "vit"),
        ("open_clip:ViT-B-32/openai", "ViT-B-32_openai"),
        ("model.pt2", "model"),
    ],
)
def test_files_are_called_after_their_model_and_are_not_hidden(label: str, stem: str) -> None:
    assert file_stem(label) == stem
