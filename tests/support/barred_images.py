"""Images that a small network learns to tell apart in a second, and the contract of a student of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgedistill.documents.specs import Contract

SIDE, CLASSES = 32, 5
BUILD = "b" * 64
CONTRACT = Contract(
    resolution=SIDE,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    labels=("apple", "pear", "quince", "sloe", "prunelle à épines"),
)


def labelled_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of `CLASSES` kinds (a bright bar at one of as many heights, on structured ground), 0..255, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    images = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1) * 127
    for image, label in zip(images, labels, strict=True):
        top = 1 + 6 * int(label)
        image[:, top : top + 4] += 120
    return images.clamp(0, 255).round(), labels


def barred_images(count: int, seed: int) -> np.ndarray:
    """The images alone, uint8 [count, 3, SIDE, SIDE]."""
    return labelled_images(count, seed)[0].to(torch.uint8).numpy()


def taught(module: nn.Module, steps: int, learning_rate: float) -> nn.Module:
    """`module` trained a little: its batch norms have statistics of their own, its logits mean something."""
    images, labels = labelled_images(256, seed=4)
    optimizer = torch.optim.AdamW(module.parameters(), learning_rate)
    for step in range(steps):
        batch = slice(step % 8 * 32, step % 8 * 32 + 32)
        loss = nn.functional.cross_entropy(module(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module
