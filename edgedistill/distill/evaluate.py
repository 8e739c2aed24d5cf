"""Accuracy of a torch module: it ranks candidates between rungs, and is never reported as an artifact's."""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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
    weight = next(chain(module.parameters(), module.buffers()), torch.empty(0))
    was_training = module.training
    module.eval()
    right = 0
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(images[start : start + BATCH]).to(weight.device)
        logits = module(batch.to(torch.float32, memory_format=torch.channels_last))
        expected = torch.from_numpy(labels[start : start + BATCH]).to(weight.device)
        right += int((logits.argmax(1) == expected).sum())
    module.train(was_training)
    return right
