from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, StageAdvanced, silent
from edgedistill.data.datasets import Dataset
from edgedistill.distill import loop
from edgedistill.distill.batches import DrawnViews
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.fit_teacher import fit_teacher, load_fitted
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import AugmentationConfig, TrainConfig
from edgedistill.documents.specs import Contract
from edgedistill.documents.teachers import FitConfig
from edgedistill.networks.build import Normalised

FIT = FitConfig(epochs=4, batch_size=64, learning_rate=1e-2)
TRAIN = TrainConfig(device="cpu", workers=0)
AUGMENTATION = AugmentationConfig(magnitude=0.2)


class Killed(Exception):
    pass


@pytest.fixture
def untrained(contract: Contract) -> Teacher:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 10)
        )
    module = Normalised(network, contract.mean, contract.std).eval()
    return Teacher("convolution", module, contract, "untrained", sum(p.numel() for p in network.parameters()))


def test_fitting_teaches_the_labels_and_leaves_the_given_teacher_as_it_was(
    untrained: Teacher, digits: Dataset, contract: Contract, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in untrained.module.state_dict().items()}
    events: list[Event] = []
    fitted = fit_teacher(untrained, FIT, digits, AUGMENTATION, TRAIN, tmp_path, events.append)
    assert split_quality(fitted.module, digits, digits.splits.validation, contract) > 0.8
    assert fitted.key != untrained.key
    assert not fitted.module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in untrained.module.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["teacher.safetensors"]
    assert isinstance(events[-1], StageAdvanced)
    assert (events[-1].stage, events[-1].done) == ("teacher", events[-1].total)
    again = load_fitted(untrained, tmp_path)
    assert again.key == fitted.key


def test_a_killed_fit_goes_on_and_ends_the_same(
    untrained: Teacher, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    eager = TRAIN.model_copy(update={"checkpoint_seconds": 1e-9})

    def kill(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.done == 7:
            raise Killed

    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    whole = fit_teacher(untrained, FIT, digits, AUGMENTATION, eager, tmp_path / "whole", silent)
    with pytest.raises(Killed):
        fit_teacher(untrained, FIT, digits, AUGMENTATION, eager, tmp_path / "killed", kill)
    assert fit_teacher(untrained, FIT, digits, AUGMENTATION, eager, tmp_path / "killed", silent).key == whole.key


def test_every_epoch_draws_its_own_views() -> None:
    fresh = DrawnViews(20, AUGMENTATION)
    assert not np.array_equal(fresh.views(1), fresh.views(AUGMENTATION.views + 1))
    assert np.array_equal(fresh.views(1), fresh.views(1))


def test_a_fit_that_diverges_is_the_users_to_mend(untrained: Teacher, digits: Dataset, tmp_path: Path) -> None:
    module = Normalised(untrained.module, (0, 0, 0), (1e-40, 1e-40, 1e-40))
    with pytest.raises(InputError, match="the teacher cannot be fitted: the loss is") as caught:
        fit_teacher(replace(untrained, module=module), FIT, digits, AUGMENTATION, TRAIN, tmp_path, silent)
    assert "learning_rate" in caught.value.fix
