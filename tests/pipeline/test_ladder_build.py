"""A build's ladder on real files: a student that plain int8 ruins comes back on a later rung; a second look is free."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgedistill.base.progress import Event, StageFinished
from edgedistill.base.store import Store, digest
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import channel_statistics, prepare
from edgedistill.documents.artifacts import CalibrationSet, SchemeResult, Verified
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.specs import Contract, Format, Precision
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.bench import Data, Source
from edgedistill.pipeline.judge import climbed, realise
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.workbench import Workbench

CONFIG = BuildConfig.model_validate(
    {
        "budget": "5ms",
        "teacher": {"model": "timm:resnet18"},
        "data": {"source": "digits"},
        "export": {"precisions": ["fp32", "int8"], "max_quality_loss": "1%", "calibration_images": 64},
    }
)


class Student(nn.Module):
    """Two convolutions and a head; `activation` stands between them."""

    def __init__(self, activation: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.mean, self.std = contract.mean[0], contract.std[0]
        self.stem, self.body = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.activation, self.head = activation, nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.stem((image - self.mean) / self.std))
        return self.head(torch.relu(self.body(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    dataset = load_dataset(CONFIG.data)
    data, host = Data(dataset, *channel_statistics(dataset)), load_target("host")
    meter, store = Meter(host, None, "nothing is timed here"), Store(tmp_path_factory.mktemp("cache"))
    return Workbench.of(CONFIG, host, data, store, meter, Path())


def ruined(bench: Workbench, activation: nn.Module, size: float) -> Source:
    """A trained student in which one channel between the convolutions is `size` times larger and counts as much less."""
    contract = bench.contract(16)
    images = torch.from_numpy(prepare(bench.dataset.images, bench.dataset.splits.train, contract)).float()
    labels = torch.from_numpy(bench.labels("train"))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        module = Student(activation, contract)
        optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
        for _ in range(8):
            for part in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(images[part]), labels[part]).backward()
                optimizer.step()
    with torch.no_grad():
        module.stem.weight[:1] *= size
        module.stem.bias[:1] *= size
        module.body.weight[:, :1] /= size
    module = module.eval().requires_grad_(False)
    return Source(
        f"ruined {type(activation).__name__}", digest([type(activation).__name__, size]), contract, lambda: module
    )


def quality(result: SchemeResult) -> float:
    assert isinstance(result.verification, Verified)
    return result.verification.quality_validation


def test_evened_channels_bring_it_back(bench):
    source = ruined(bench, nn.ReLU(), 2000.0)
    full, small = realise(bench, source)
    assert quality(full) > 0.85, "the test's own student has learnt nothing"
    rungs = climbed(bench, source, Format.ONNX, full)
    assert [rung.accepted for rung in rungs][:1] == [False] and (rungs[0].loss or 0) > 0.05
    assert small.scheme.equalized and not small.dropped and quality(full) - quality(small) <= 0.01
    assert rungs[-1].accepted and rungs[-1].scheme == small.scheme
    stored = CalibrationSet.model_validate_json(next(bench.store.root.glob("export/*/calibration.json")).read_text())
    assert len(stored.indices) == 64 and stored.fingerprint == bench.dataset.fingerprint


def test_layers_in_float_bring_it_back_where_nothing_can_be_evened_out(bench):
    source = ruined(bench, nn.Tanh(), 2000.0)
    full, small = realise(bench, source)
    assert quality(full) > 0.5
    assert small.scheme.precision is Precision.MIXED and small.scheme.kept and not small.dropped
    assert quality(full) - quality(small) <= 0.01


def test_a_second_look_does_no_work(bench):
    source = ruined(bench, nn.ReLU(), 2000.0)
    first = realise(bench, source)
    done: list[Event] = []
    bench.store.listener = done.append
    assert realise(bench, source) == first
    assert all(event.reused for event in done if isinstance(event, StageFinished))
