"""Small networks with every seam and layer kind, and images for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.documents.specs import Contract

SIDE = 16
CONTRACT = Contract(resolution=SIDE, mean=(128.0,) * 3, std=(64.0,) * 3, labels=tuple("abcd"))


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [count, 3, SIDE, SIDE]: coarse colour fields under noise."""
    generator = np.random.default_rng(seed)
    fields = generator.uniform(0, 255, (count, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    return np.clip(fields + generator.normal(0, 20, fields.shape), 0, 255).astype(np.uint8)


class Chain(nn.Module):
    """Convolutions with a batch norm, a depthwise and a grouped one between ReLUs; two readers of one value; a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 16, 1, groups=2)
        self.left, self.right = nn.Conv2d(16, 12, 1), nn.Conv2d(16, 12, 3, 1, 1)
        self.last, self.head = nn.Conv2d(12, 10, 1), nn.Linear(10, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem((image - 128.0) / 64.0))
        x = torch.relu(self.norm(self.depthwise(x)))
        x = torch.relu(self.grouped(x))
        x = torch.relu(self.last(torch.relu(self.left(x) + self.right(x))))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """A transformer's block: a norm read by three linear layers, a product of activations, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12)
        self.q, self.k, self.v, self.proj = (nn.Linear(12, 12) for _ in range(4))
        self.head = nn.Linear(12, 4)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch((image - 128.0) / 64.0).flatten(2).transpose(1, 2)
        y = self.norm(tokens)
        attention = (self.q(y) @ self.k(y).transpose(1, 2) / 12**0.5).softmax(-1)
        tokens = tokens + self.proj(attention @ self.v(y))
        return self.head(tokens.mean(1))


def made(kind: type[nn.Module], seed: int = 0, spread: float = 2.0) -> nn.Module:
    """A network with random weights whose channels differ in size: log-normal with deviation `spread`."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        module = kind().eval().requires_grad_(False)
        for name, parameter in module.named_parameters():
            if "head" not in name:
                scale = torch.exp(torch.randn(len(parameter)) * spread)
                parameter.mul_(scale.reshape(-1, *[1] * (parameter.ndim - 1)))
    return module
