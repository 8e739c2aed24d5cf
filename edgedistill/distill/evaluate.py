"""Quality of a torch module: it ranks candidates between rungs, and is never reported as an artifact's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.base.arrays import ImageRows
from edgedistill.data.datasets import Dataset
from edgedistill.data.prepared import prepared
from edgedistill.documents.specs import Contract
from edgedistill.networks.tasks import Truth, task_of

BATCH = 256


def split_quality(
    module: nn.Module, dataset: Dataset, indices: NDArray[np.int64], contract: Contract, truth: Truth | None = None
) -> float:
    """Score (0 to 1) of what a module gives for a split's images, by the contract's task, held against `truth`, by default
    their labels."""
    outputs = outputs_of(module, prepared(dataset, indices, contract))
    return task_of(contract).score(outputs, dataset.labels[indices] if truth is None else truth)


def split_right(
    module: nn.Module, dataset: Dataset, indices: NDArray[np.int64], contract: Contract, truth: Truth | None = None
) -> NDArray[np.bool_]:
    """Which of a split's images [n] a module answers rightly, by the contract's task, held against `truth`, by default their
    labels."""
    outputs = outputs_of(module, prepared(dataset, indices, contract))
    return task_of(contract).right(outputs, dataset.labels[indices] if truth is None else truth)


@torch.inference_mode()
def outputs_of(module: nn.Module, images: ImageRows) -> NDArray[np.float32]:
    """What a module gives for `images` (uint8 [n, 3, R, R]): float32 [n, width], on the CPU.

    Runs where the module's weights lie, in eval mode and float32, and leaves the module's mode as it was.
    """
    found: NDArray[np.float32] = torch.cat([outputs.float().cpu() for outputs in _outputs(module, images)]).numpy()
    return found


@torch.inference_mode()
def collected(module: nn.Module, images: ImageRows) -> dict[str, Tensor]:
    """What a module that gives several tensors by name gives for `images` (uint8 [n, 3, R, R]), on the CPU; run as
    `outputs_of` does."""
    found = list(_outputs(module, images))
    return {name: torch.cat([outputs[name].cpu() for outputs in found]) for name in found[0]}


def _outputs(module: nn.Module, images: ImageRows) -> Iterator[Any]:
    weight = next(chain(module.parameters(), module.buffers()), torch.empty(0))
    was_training = module.training
    module.eval()
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(images[start : start + BATCH]).to(weight.device)
        yield module(batch.to(torch.float32, memory_format=torch.channels_last))
    module.train(was_training)
