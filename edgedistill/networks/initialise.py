"""Fresh weights for students: one rule for all families; and weights for files that are only measured."""

from __future__ import annotations

import math

import torch
from torch import nn


def initialise(network: nn.Module) -> None:
    """Convolutions from N(0, 2 / fan_out) with fan_out a group (He et al. 2015, as EfficientNet counts it), the classifier,
    which is the last linear layer, from N(0, 0.01), the others as Vision Transformer's own code has them: evenly within
    sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010, equation 16). Normalisation is at one and zero. Residual networks
    start as identities where their blocks allow it."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for layer in linear:
        if layer is linear[-1]:
            nn.init.normal_(layer.weight, 0.0, 0.01)
        else:
            nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for module in network.modules():
        if callable(zero := getattr(module, "zero_init_last", None)):
            zero()


def draw_constants(network: nn.Module) -> None:
    """Random numbers in the place of the ones and zeros that normalisations, biases and residual branches start with: as in
    a trained network no tensor is like another. Files keep equal tensors once (TFLite's buffers do), and would be smaller
    than a trained network's."""
    with torch.no_grad():
        for values in network.parameters():
            if values.numel() > 1 and bool((values == values.flatten()[0]).all()):
                values.add_(torch.randn_like(values), alpha=0.1)
