from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import timm
import torch
from torch import nn

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, Note, StageAdvanced, silent
from edgedistill.data.datasets import Dataset
from edgedistill.distill import fit_teacher as fit_teacher_module
from edgedistill.distill import loop
from edgedistill.distill.batches import DrawnViews
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.fit_teacher import fit_teacher, load_fitted, settled
from edgedistill.distill.head_first import with_fitted_head
from edgedistill.distill.loop import Schedule, parameter_groups
from edgedistill.distill.recipes.losses import bound
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import AugmentationConfig, TrainConfig
from edgedistill.documents.lengths import FEWEST_VIEWS
from edgedistill.documents.recipes import labels_alone
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
    steps = [event for event in events if isinstance(event, StageAdvanced)]
    assert (steps[-1].stage, steps[-1].done) == ("teacher", steps[-1].total)
    assert len({event.total for event in steps}) == 1, "of the whole fit, whichever epoch it is"
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
    assert not np.array_equal(fresh.views(1), fresh.views(1 + FEWEST_VIEWS))
    assert np.array_equal(fresh.views(1), fresh.views(1))


def test_a_fit_that_diverges_is_the_users_to_mend(untrained: Teacher, digits: Dataset, tmp_path: Path) -> None:
    module = Normalised(untrained.module, (0, 0, 0), (1e-40, 1e-40, 1e-40))
    with pytest.raises(InputError, match="the teacher cannot be fitted: the loss is") as caught:
        fit_teacher(replace(untrained, module=module), FIT, digits, AUGMENTATION, TRAIN, tmp_path, silent)
    assert "learning_rate" in caught.value.fix


# -- with care for weights that were trained before -----------------------------------------------------------------


class Separable(nn.Module):
    """Features that tell the digits apart, under a classifier that is random."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.features = nn.Linear(192, len(weights))
        with torch.no_grad():
            self.features.weight.copy_(weights)
            self.features.bias.zero_()
        self.head = nn.Linear(len(weights), 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.features(image.flatten(1))))
        return logits


@pytest.fixture
def separable(contract: Contract) -> Teacher:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = Separable(torch.randn(300, 192) / 14)
    module = Normalised(network, contract.mean, contract.std).eval()
    return Teacher("features", module, contract, "features", 0, trained=True)


def test_a_new_classifier_is_fitted_before_the_network_changes(separable: Teacher, digits: Dataset) -> None:
    validation = digits.splits.validation
    before = split_quality(separable.module, digits, validation, separable.contract)
    found = with_fitted_head(separable.module, digits, separable.contract, seed=0)
    assert found is not None
    module, quality = found
    assert before < 0.3 < 0.9 < quality == split_quality(module, digits, validation, separable.contract)
    old, new = separable.module.state_dict(), module.state_dict()
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        "network.head.weight",
        "network.head.bias",
    }
    again = with_fitted_head(module, digits, separable.contract, seed=0)
    assert again is None or again[1] > quality, "one that is as good stays"


def test_two_classes_have_a_classifier_of_two_rows(separable: Teacher, digits: Dataset) -> None:
    """The regression has one row for them."""
    keep = {name: part[digits.labels[part] < 2] for name, part in vars(digits.splits).items() if name != "seed"}
    pair = replace(digits, classes=("0", "1"), splits=replace(digits.splits, **keep))
    network: Any = separable.module.network  # type: ignore[union-attr]
    network.head = nn.Linear(300, 2)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([0.0, 1.0]))
    contract = separable.contract.model_copy(update={"labels": ("0", "1")})
    found = with_fitted_head(separable.module, pair, contract, seed=0)
    assert found is not None and found[1] > 0.98


def test_without_an_image_of_a_class_no_classifier_is_fitted(separable: Teacher, digits: Dataset) -> None:
    """As in a part of a cross-fit that has the only image of a class."""
    train = digits.splits.train
    without = replace(digits, splits=replace(digits.splits, train=train[digits.labels[train] != 9]))
    assert with_fitted_head(separable.module, without, separable.contract, seed=0) is None


def test_a_network_without_a_classifier_stays_as_it_is(digits: Dataset, contract: Contract) -> None:
    module = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Softmax(1)), contract.mean, contract.std)
    assert with_fitted_head(module, digits, contract, seed=0) is None


def test_what_auto_means_depends_on_the_weights() -> None:
    tuned, fresh = settled(FitConfig(), trained=True), settled(FitConfig(), trained=False)
    assert (tuned.learning_rate, tuned.layer_decay, tuned.head_first) == (1e-3, 0.9, True)
    assert (fresh.learning_rate, fresh.layer_decay, fresh.head_first) == (2e-3, 1.0, False)
    said = FitConfig(learning_rate=0.5, layer_decay=0.3, head_first=False)
    assert settled(said, trained=True) == said


def test_layers_further_from_the_classifier_learn_more_slowly() -> None:
    network = timm.create_model("test_resnet", num_classes=10)
    pupil = Pupil(Normalised(network, (0.0,) * 3, (1.0,) * 3), bound([labels_alone()]), 10)
    schedule = Schedule(2, 0.1, 0.05, 1.0, 0.9, 0, 1e9, layer_decay=0.5)
    groups = parameter_groups(pupil, schedule)
    share = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert sorted(share) == sorted(id(p) for p in pupil.parameters())
    assert share[id(network.fc.weight)] == 1
    assert share[id(network.layer4[0].conv1.weight)] > share[id(network.layer1[0].conv1.weight)] > 0
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[id(network.fc.bias)] == 0 and decays[id(network.fc.weight)] == 0.05
    plain = parameter_groups(pupil, replace(schedule, layer_decay=1.0))
    assert not any("lr_scale" in group for group in plain)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_epoch_is_kept_or_the_last(
    untrained: Teacher, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Literal["best", "last"]
) -> None:
    """Of four epochs the validation split likes the second and the third one best, as much as one another."""
    said = iter([0.5, 0.8, 0.8, 0.6])
    seen: list[Any] = []

    def quality(network: nn.Module, *rest: Any) -> float:
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return next(said)

    monkeypatch.setattr(fit_teacher_module, "split_quality", quality)
    heard: list[Event] = []
    fit = FIT.model_copy(update={"keep": keep})
    fitted = fit_teacher(untrained, fit, digits, AUGMENTATION, TRAIN, tmp_path, heard.append)
    kept = 2 if keep == "best" else 0
    assert len(seen) == (4 if keep == "best" else 1)
    for name, tensor in fitted.module.state_dict().items():
        torch.testing.assert_close(tensor, seen[kept][name])
    (note,) = [event.text for event in heard if isinstance(event, Note)]
    assert ("after epoch 3 of 4 (the last: 60.0%)" in note) is (keep == "best")


def test_what_no_epoch_makes_better_stays_as_its_classifier_was_fitted(
    separable: Teacher, digits: Dataset, tmp_path: Path
) -> None:
    head = with_fitted_head(separable.module, digits, separable.contract, FIT.seed)
    assert head is not None
    ruinous = FIT.model_copy(update={"learning_rate": 9.0, "head_first": True})
    heard: list[Event] = []
    fitted = fit_teacher(separable, ruinous, digits, AUGMENTATION, TRAIN, tmp_path, heard.append)
    assert split_quality(fitted.module, digits, digits.splits.validation, separable.contract) == head[1]
    assert "before the first epoch" in [event.text for event in heard if isinstance(event, Note)][-1]


def test_looking_at_each_epoch_changes_nothing_of_the_training(
    untrained: Teacher, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rising = iter(range(1, 10))
    monkeypatch.setattr(fit_teacher_module, "split_quality", lambda *_: next(rising) / 10)
    keys = set()
    for keep in ("best", "last"):
        (tmp_path / keep).mkdir()
        fit = FIT.model_copy(update={"keep": keep})
        keys.add(fit_teacher(untrained, fit, digits, AUGMENTATION, TRAIN, tmp_path / keep, silent).key)
    assert len(keys) == 1
