"""`build` and `quantize` make, judge and keep files by the same functions: for one model, its data and its margins they come
to the same rung and to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgedistill.base.store import Store, file_sha256
from edgedistill.commands.model import open_model
from edgedistill.commands.quantize_files import quantize_files
from edgedistill.commands.requests import ModelRequest, ModelSettings
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import channel_statistics, prepare
from edgedistill.devices.attach import attach
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.specs import Format
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.bench import Data
from edgedistill.pipeline.judge import realise
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.workbench import Workbench
from edgedistill.selection.ladder import Margins

CODE = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.activation, self.head = activation, nn.Linear(32, 10)

    def forward(self, image):
        x = self.activation(self.stem(image / 128 - 1))
        return self.head(torch.relu(self.body(x)).mean((2, 3)))

def relu():
    return Network(nn.ReLU())

def tanh():
    return Network(nn.Tanh())
"""
HOST = load_target("host")
SETTINGS = {
    "teacher": {"model": "timm:resnet18"},
    "budget": "5ms",
    "export": {"precisions": ["fp32", "int8"], "max_quality_loss": "1%", "calibration_images": 256},
}


def trained(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a network in which one channel between the convolutions is 2,000 times larger and counts as much less."""
    (folder / "networks_here.py").write_text(CODE)
    monkeypatch.chdir(folder)
    source, _ = open_model(f"networks_here:{name}", ModelSettings(classes=10, resolution=16), folder)
    dataset = load_dataset(BuildConfig.model_validate(SETTINGS).data)
    images = torch.from_numpy(prepare(dataset.images, dataset.splits.train, source.contract)).float()
    labels = torch.from_numpy(dataset.labels[dataset.splits.train])
    scope: dict[str, object] = {}
    exec(CODE, scope)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network: nn.Module = scope[name]()  # type: ignore[operator]
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        for _ in range(8):
            for part in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images[part]), labels[part]).backward()
                optimizer.step()
    weights = network.state_dict()
    weights["stem.weight"][:1] *= 2000.0
    weights["stem.bias"][:1] *= 2000.0
    weights["body.weight"][:, :1] /= 2000.0
    torch.save(weights, folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.parametrize("name", ["relu", pytest.param("tanh", marks=pytest.mark.slow)])
def test_a_build_and_quantize_come_to_the_same_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ModelSettings(checkpoint=trained(tmp_path, name, monkeypatch), classes=10, resolution=16)
    model = f"networks_here:{name}"
    source, _ = open_model(model, settings, tmp_path)
    config = BuildConfig.model_validate(SETTINGS)
    dataset = load_dataset(config.data)
    data, meter = Data(dataset, *channel_statistics(dataset)), Meter(HOST, attach(HOST, lambda event: None))
    bench = Workbench.of(config, HOST, data, Store(tmp_path / "cache"), meter, tmp_path)
    _, built = realise(bench, source)
    asked = ModelRequest(model, settings, (Format.ONNX,), HOST, tmp_path / "out")
    (ladder,) = quantize_files(asked, config.data, "digits", Margins(0.01), ()).formats
    assert not built.dropped and ladder.winner is not None and ladder.path is not None
    assert ladder.winner.scheme == built.scheme and built.scheme.details != "int8", "plain int8 ruins it"
    assert file_sha256(tmp_path / "out" / ladder.path) == built.artifact.sha256
