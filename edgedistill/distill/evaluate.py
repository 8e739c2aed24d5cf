"""Accuracy of a torch module: it ranks candidates between rungs, and is never reported as an artifact's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.documents.specs import Contract

BATCH = 256
CHUNK = 4096


def split_accuracy(module: nn.Module, dataset: Dataset, indices: NDArray[np.int64], contract: Contract) -> float:
    """Share of a split's images that are `correct`, prepared a chunk at a time so that a large split need not fit in
    memory."""
    right = 0
    for start in range(0, len(indices), CHUNK):
        chosen = indices[start : start + CHUNK]
        right += correct(module, prepare(dataset.images, chosen, contract), dataset.labels[chosen])
    return right / len(indices)


@torch.inference_mode()
def correct(module: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> int:
    """How many of `images` (uint8 [n, 3, R, R]) have their largest logit at the label (int64 [n]).

    Runs where the module's weights lie, in eval mode and float32, and leaves the module's mode as it was.
    """
    right = 0
    for start, logits in _outputs(module, images):
        expected = torch.from_numpy(labels[start : start + BATCH]).to(logits.device)
        right += int((logits.argmax(1) == expected).sum())
    return right


@torch.inference_mode()
def collected(module: nn.Module, images: NDArray[np.uint8]) -> dict[str, Tensor]:
    """What a module that gives several tensors by name gives for `images` (uint8 [n, 3, R, R]), on the CPU; run as `correct`
    does."""
    found = [outputs for _, outputs in _outputs(module, images)]
    return {name: torch.cat([outputs[name].cpu() for outputs in found]) for name in found[0]}


def _outputs(module: nn.Module, images: NDArray[np.uint8]) -> Iterator[tuple[int, Any]]:
    weight = next(chain(module.parameters(), module.buffers()), torch.empty(0))
    was_training = module.training
    module.eval()
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(images[start : start + BATCH]).to(weight.device)
        yield start, module(batch.to(torch.float32, memory_format=torch.channels_last))
    module.train(was_training)
