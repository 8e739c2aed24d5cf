"""A teacher of a few weights, a few images, and what it says of their views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.base.progress import Event, silent
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import GreyImages
from edgedistill.data.splits import Splits
from edgedistill.distill.stored.signals import StoredSignal
from edgedistill.distill.stored.views import StoredViews, stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.specs import Contract

TRAIN, CLASSES, VIEWS, BATCH = 50, 5, 3, 8
AUGMENTATION = AugmentationConfig(views=VIEWS, flip=True, operations=2, magnitude=0.8, mix=0.4)


def make_dataset() -> Dataset:
    rng = np.random.default_rng(0)
    images = GreyImages(rng.integers(0, 256, (70, 10, 10), dtype=np.uint8))
    train = np.arange(70)[::-1][:TRAIN]
    splits = Splits(train, np.arange(10), np.arange(10, 20), 0)
    return Dataset("dots", tuple("abcde"), rng.integers(0, CLASSES, 70), images, splits, "fingerprint")


class Network(nn.Module):
    """Deterministic small network; `scale` stretches its logits."""

    def __init__(self, scale: float = 5.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(CLASSES, 3, 12, 12, generator=generator) / 20)
        self.scale = scale
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        assert not torch.is_grad_enabled()
        return functional.conv2d(images / 255 - 0.5, self.weight).flatten(1) * self.scale


def deep() -> nn.Sequential:
    """Seven features and a classifier."""
    made = nn.Sequential(nn.Conv2d(3, 7, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, CLASSES))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made.eval()


def make_teacher(module: nn.Module | None = None, key: str = "weights") -> Teacher:
    contract = Contract(resolution=12, mean=(0, 0, 0), std=(1, 1, 1), labels=tuple("abcde"))
    return Teacher("toy", (module or Network()).eval(), contract, key, 1)


def views_in(root: Path) -> StoredViews:
    return stored_views(Store(root), make_dataset(), AUGMENTATION)


def build(root: Path, listener: Callable[[Event], None] = silent, teacher: Teacher | None = None) -> StoredSignal:
    labeller = Labeller(
        teacher or make_teacher(), make_dataset(), views_in(root), batch_size=BATCH, device="cpu", commit_seconds=0
    )
    (found,) = Labelling(Store(root, listener), labeller, listener).build()
    return found


def logits_of(found: StoredSignal, view: int) -> NDArray[np.float16]:
    return found.at(view, np.arange(TRAIN))


def assert_same(one: StoredSignal, other: StoredSignal) -> None:
    for view in range(VIEWS):
        np.testing.assert_array_equal(logits_of(one, view), logits_of(other, view))
    assert sorted(path.name for path in one.folder.iterdir()) == sorted(path.name for path in other.folder.iterdir())
