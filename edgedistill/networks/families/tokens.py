"""A feature map taken through transformer blocks and back."""

from __future__ import annotations

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn


class Tokens(nn.Module):
    """Feature map [N, C, S, S] to feature map: a token a place, learned positions, `blocks` of timm's transformer blocks
    with `heads` heads, a layer norm. `side` is S."""

    def __init__(self, channels: int, blocks: int, heads: int, expansion: float, side: int) -> None:
        super().__init__()
        self.side = side
        self.positions = nn.Parameter(torch.empty(1, side * side, channels))
        trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*(Block(channels, heads, expansion, qkv_bias=True) for _ in range(blocks)))
        for attention in (module for module in self.blocks.modules() if isinstance(module, Attention)):
            # As two products and a softmax, which is what every exporter makes of it, and what is counted the same on the
            # meta device and on a CPU. So few tokens gain nothing from one kernel.
            setattr(attention, "fused_attn", False)  # noqa: B010  # Final, for torch.jit
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = maps.flatten(2).transpose(1, 2) + self.positions
        tokens = self.norm(self.blocks(tokens))
        result: Tensor = tokens.transpose(1, 2).reshape(-1, tokens.shape[2], self.side, self.side)
        return result
