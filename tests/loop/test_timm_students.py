"""A build whose students are timm's, from random weights and from a file's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_training import trained_network

from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract, prepare
from edgedistill.documents.build_file import load_config

SPACE = 'families = ["mobilenetv4", "resnet"]\nwidths = [0.25, 0.5]\ndepths = [0.5]\nresolutions = [8, 16]\n'
NAME = "timm:test_resnet"


def trained(build: Path, folder: Path) -> Path:
    """test_resnet after some epochs on the build's own training images: weights as someone may have them."""
    config = load_config(build)
    dataset = load_dataset(config.data)
    mean, std = channel_statistics(dataset)
    contract = make_contract(config.data, dataset.classes, 16, mean, std)
    images = torch.from_numpy(prepare(dataset.images, dataset.splits.train, contract)).float()
    pixels = (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    labels = torch.from_numpy(dataset.labels[dataset.splits.train])
    network = trained_network(pixels, labels, epochs=12)
    path = folder / "student.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def random_start(loop: Any) -> Any:
    return loop.build(
        loop.write("timm", "1000ms", (SPACE, f'models = ["{NAME}"]\nwidths = [1]\ndepths = [1]\nresolutions = [16]\n'))
    )


def test_a_model_of_timm_is_trained_proven_and_shipped(random_start: Any) -> None:
    result = random_start.result
    assert result.status == "met", result.verdict
    assert (result.student.family, result.student.resolution) == (NAME, 16)
    assert {trial.spec.family for trial in result.trials} == {NAME}
    assert NAME in (random_start.out / "report.html").read_text()


def test_weights_of_a_file_give_a_start_that_random_ones_do_not(loop: Any, random_start: Any, tmp_path: Path) -> None:
    path = loop.write(
        "timm-start",
        "1000ms",
        (SPACE, f'models = ["{NAME}"]\nwidths = [1]\ndepths = [1]\nresolutions = [16]\nCHECKPOINTS\n'),
    )
    text = path.read_text()
    path.write_text(text.replace("CHECKPOINTS", ""))
    weights = trained(path, path.parent)
    path.write_text(text.replace("CHECKPOINTS", f'checkpoints = {{"{NAME}" = "{weights.name}"}}'))
    built = loop.build(path)
    assert built.result.status == "met", built.result.verdict
    (fresh,), (started,) = (result.trials for result in (random_start.result, built.result))
    assert weights.name in (built.out / "package" / "MODEL_CARD.md").read_text()
    assert started.rungs[0].quality_validation > fresh.rungs[0].quality_validation + 0.2
    again = loop.build(path)
    assert "nothing has changed since this build" in again.notes
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), weights)
    other = loop.build(path)
    assert "nothing has changed since this build" not in other.notes
    assert other.result.trials[0].rungs[0].quality_validation < started.rungs[0].quality_validation
