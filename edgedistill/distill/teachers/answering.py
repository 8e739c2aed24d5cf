"""A teacher of which there is only what answers for it: a runtime with a file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from edgedistill.base.arrays import Images, Logits


class Answering(nn.Module):
    """float [N, 3, R, R] in 0..255 to the logits [N, classes] that `run` gives for the same images as uint8. It has no
    weights and no gradient."""

    def __init__(self, run: Callable[[Images], Logits]) -> None:
        super().__init__()
        self.run = run

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.to(torch.uint8).cpu().numpy()  # views are rendered as bytes: nothing is lost
        return torch.from_numpy(np.ascontiguousarray(self.run(pixels), np.float32)).to(image.device)
