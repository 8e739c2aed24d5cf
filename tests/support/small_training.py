"""A small network after some epochs of plain training: weights as someone may have them."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn


def trained_network(pixels: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """timm's test_resnet for 10 classes after so many epochs on `pixels` float [n, 3, R, R] with `labels` int [n]."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("test_resnet", num_classes=10)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for batch in torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch)).split(32):
            loss = nn.functional.cross_entropy(network(pixels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network
