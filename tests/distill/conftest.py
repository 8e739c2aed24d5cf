from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.base.progress import silent
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, TrainConfig
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import Normalised

AUGMENTATION = AugmentationConfig(views=2, scale=(0.8, 1.0), magnitude=0.2, mix=0.3)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """320 digits to train on."""
    dataset = load_dataset(DataConfig())
    splits = replace(dataset.splits, train=dataset.splits.train[:320])
    return replace(dataset, splits=splits)


@pytest.fixture(scope="session")
def contract(digits: Dataset) -> Contract:
    mean, std = channel_statistics(digits)
    return make_contract(DataConfig(), digits.classes, 8, mean, std)


@pytest.fixture(scope="session")
def spec() -> StudentSpec:
    return StudentSpec(family="mobilenetv4", width=0.25, depth=0.5, resolution=8)


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return TrainConfig(recipe="kd", batch_size=64, workers=0, learning_rate=1e-2, device="cpu")


@pytest.fixture(scope="session")
def small_teacher(digits: Dataset, contract: Contract) -> Teacher:
    """A linear teacher solved in closed form on the training split: right on most digits, made in milliseconds."""
    images = np.stack([digits.images[i][:, :, 0] for i in digits.splits.train]).reshape(-1, 64) / 255.0
    features = np.c_[images, np.ones(len(images))]
    targets = 20.0 * (np.eye(10)[digits.labels[digits.splits.train]] - 0.5)
    weights = np.linalg.solve(features.T @ features + np.eye(65), features.T @ targets)
    linear = nn.Linear(3 * 64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.tile(weights[:64].T / 3, (1, 3))))
        linear.bias.copy_(torch.from_numpy(weights[64]))
    module = Normalised(nn.Sequential(nn.Flatten(), linear), (0, 0, 0), (255, 255, 255)).eval()
    return Teacher("linear", module, contract, "linear", sum(p.numel() for p in linear.parameters()))


@pytest.fixture(scope="session")
def stored(small_teacher: Teacher, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> SplitStore:
    store = Store(tmp_path_factory.mktemp("cache"))
    views = stored_views(store, digits, AUGMENTATION)
    labeller = Labeller(small_teacher, digits, views, device="cpu")
    return SplitStore(views, Labelling(store, labeller, silent).build())
