"""Batches of a training run: batch number `step` is a function of the step alone, so a run can start at any of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from edgedistill.base.errors import EdgedistillError, InputError
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Indices
from edgedistill.data.views import Views, draw_views, mixed_labels, render_batch
from edgedistill.distill.hardware import Hardware
from edgedistill.distill.ranks import ALONE, Rank
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.specs import Contract


class Batch(NamedTuple):
    """`images` uint8 [B, 3, R, R], where several processes share a batch those of this one; `labels` float32 [B, classes],
    the shares of the classes in each of the batch; `teacher` what it gave by tap, float16 [B, width], empty where a recipe
    needs none."""

    images: Tensor
    labels: Tensor
    teacher: dict[str, Tensor]

    def to(self, device: torch.device) -> Batch:
        """On `device`; the copies may still be under way when this returns."""
        images, labels = (tensor.to(device, non_blocking=True) for tensor in (self.images, self.labels))
        return Batch(images, labels, {tap: rows.to(device, non_blocking=True) for tap, rows in self.teacher.items()})


class ViewSource(Protocol):
    """Where an epoch's views come from, and what a teacher said of them."""

    def positions(self) -> Indices:
        """Of the training split, those that are learnt from, rising."""

    def views(self, epoch: int) -> Views:
        """Of every training image, VIEW_DTYPE [n]."""

    def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
        """By tap, rows [len(positions), width] of the images at those positions of the split; empty without a teacher."""


@dataclass(frozen=True)
class DrawnViews:
    """New views of `count` images in each epoch, and no teacher."""

    count: int
    augmentation: AugmentationConfig

    def positions(self) -> Indices:
        return np.arange(self.count, dtype=np.int64)

    def views(self, epoch: int) -> Views:
        return draw_views(self.count, self.augmentation, epoch)

    def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
        return {}


class ViewBatches(TorchDataset[Batch | EdgedistillError]):
    """All batches of a run over the training split, indexed by step.

    Epoch e visits every training image once, in the order of a permutation drawn from (`seed`, e), in batches of sizes that
    differ by one at most: a remainder of two images would spoil the statistics of batch normalisation. Raises InputError
    where no batch of two images can be formed.
    """

    def __init__(self, dataset: Dataset, contract: Contract, source: ViewSource, *, batch_size: int, seed: int) -> None:
        self.rank = ALONE
        self.dataset = dataset
        self.contract = contract
        self.source = source
        self.indices = dataset.splits.train
        self.labels = dataset.labels[self.indices]
        self.positions = source.positions()
        self.batch_size = min(batch_size, len(self.positions))
        self.seed = seed
        if self.batch_size < 2:
            raise InputError(
                f"training needs batches of at least two images, not {self.batch_size}",
                fix="raise batch_size, or give more training images",
            )

    def of(self, rank: Rank) -> ViewBatches:
        """The same, of which only the images of one process are rendered."""
        found = copy.copy(self)
        found.rank = rank
        return found

    @property
    def smallest(self) -> int:
        """Images in the smallest batch."""
        return len(self.positions) // self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch: as few as `batch_size` allows, each of two images or more."""
        count = len(self.positions)
        return min(-(-count // self.batch_size), count // 2)

    def __len__(self) -> int:
        raise TypeError("a run's batches have no end of their own")

    def __getitem__(self, step: int) -> Batch | EdgedistillError:
        """`batch(step)`, or the error in an image: raised in a worker process, it would reach the user as a traceback."""
        try:
            return self.batch(step)
        except EdgedistillError as error:
            return error

    def batch(self, step: int) -> Batch:
        """Batch number `step` of the run, from 0. Raises InputError for an image that can no longer be read."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = _permutation(len(self.positions), self.seed, epoch)
        start, end = (number * len(order) // self.steps_per_epoch for number in (batch, batch + 1))
        positions = self.positions[order[start:end]]
        views, said = self._views(epoch), self.source.teacher(epoch, positions)
        own = positions[self.rank.part(len(positions))]
        images = render_batch(self.dataset.images, self.indices, views, own, self.contract)
        labels = mixed_labels(self.labels, len(self.dataset.classes), views, positions)
        return Batch(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            {tap: torch.from_numpy(rows) for tap, rows in said.items()},
        )

    def _views(self, epoch: int) -> Views:
        if getattr(self, "_opened", (None,))[0] != epoch:
            self._opened = (epoch, self.source.views(epoch))
        return self._opened[1]

    def __getstate__(self) -> dict[str, object]:
        """Without the open memory map: a worker process opens its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    def loader(self, steps: range, hardware: Hardware) -> Iterator[Batch]:
        """The batches of `steps` in order, rendered by `hardware.workers` processes ahead of time, or in this one."""
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=steps,
            num_workers=hardware.workers,
            pin_memory=hardware.device.type == "cuda",
        )
        for batch in loader:
            if isinstance(batch, EdgedistillError):
                raise batch
            yield batch


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)
