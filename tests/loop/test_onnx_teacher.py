"""A build whose teacher is an ONNX file of floats that gives probabilities, by itself and beside another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from small_training import trained_network
from torch import nn

from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.commands.build import plan
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.documents.build_file import load_config
from edgedistill.documents.specs import Contract

TEACHER = """model = "timm:resnet10t"
resolution = 16
arguments = { channels = [32, 64, 96, 128] }
fit = { epochs = 2, batch_size = 64 }
"""
FILE = """model = "onnx:./teacher.onnx"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""
ONNX = """name = "here"
title = "ONNX Runtime here"
runtime = "onnx"
formats = ["onnx"]
precisions = ["fp32"]
transport = "local"
"""


class Probable(nn.Module):
    """What many people export: probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image).softmax(1)


def exported(build: Path) -> nn.Module:
    """A network after some epochs on the build's training images, as teacher.onnx beside the build file."""
    config = load_config(build)
    dataset = load_dataset(config.data)
    contract = Contract(resolution=16, mean=(127.5,) * 3, std=(127.5,) * 3, labels=dataset.classes)
    pixels = torch.from_numpy(prepare(dataset.images, dataset.splits.train, contract)).float() / 127.5 - 1
    labels = torch.from_numpy(dataset.labels[dataset.splits.train])
    network = trained_network(pixels, labels, epochs=8)
    network.eval()
    torch.onnx.export(Probable(network).eval(), (pixels[:1],), build.parent / "teacher.onnx", dynamo=False)
    return network


@pytest.fixture(scope="session")
def built(loop: Any) -> Any:
    short = ('pause = "1ms"', 'pause = "1ms"\nsession = "500ms"\ncompare = "200ms"')
    here = ('target = "host"', 'target = "./here.toml"')
    path = loop.write("onnx-teacher", "100%", (TEACHER, FILE), here, short, *loop.few)
    (path.parent / "here.toml").write_text(ONNX)
    network = exported(path)
    built = loop.build(path, target=None)
    built.network = network
    return built


def test_it_is_measured_distilled_and_shipped_beside(built: Any) -> None:
    result = built.result
    assert result.status in ("met", "not_met")
    assert (result.teacher.name, result.teacher.resolution) == ("onnx:./teacher.onnx", 16)
    # The exporter has put batch norms into the convolutions before them.
    assert result.teacher.parameters == pytest.approx(sum(p.numel() for p in built.network.parameters()), rel=0.01)
    assert result.teacher.quality_validation > 0.6
    session = onnxruntime.InferenceSession(built.out / "teacher.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)
    with torch.no_grad():
        expected = built.network(torch.from_numpy(pixels).float() / 127.5 - 1).log_softmax(1).numpy()
    np.testing.assert_allclose(session.run(["logits"], {"image": pixels})[0], expected, rtol=1e-3, atol=1e-3)


def test_what_is_stored_is_what_the_file_says(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["views", "check", str(built.path)]) == 0
    assert "logits" in capsys.readouterr().out
    planned = plan(built.path).teacher
    assert (planned.resolution, planned.multiply_adds, planned.fit_epochs) == (16, None, None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("std = [0.5, 0.5, 0.5]\n", "std = [0.5, 0.5, 0.5]\nfit = { epochs = 2 }\n"), "is a trained network as it is"),
        (("std = [0.5, 0.5, 0.5]\n", "std = [0.5, 0.5, 0.5]\nresolution = 32\n"), "takes 16 x 16 pixels"),
        (("mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n", ""), "does not say how pixels become such"),
        (("./teacher.onnx", "./absent.onnx"), "does not exist"),
    ],
)
def test_what_a_file_cannot_be_asked_for(built: Any, change: tuple[str, str], told: str) -> None:
    text = built.path.read_text()
    try:
        built.path.write_text(text.replace(*change))
        with pytest.raises(InputError, match=told):
            plan(built.path)
    finally:
        built.path.write_text(text)
