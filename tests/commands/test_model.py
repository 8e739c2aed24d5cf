"""A torch.export program as a model: what it takes and gives is read off it, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgedistill.base.errors import InputError
from edgedistill.commands import model as sources
from edgedistill.commands.model import open_model
from edgedistill.commands.requests import ModelSettings


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
