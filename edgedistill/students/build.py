"""From a spec to a student that can be trained, and from a trained one to the module that is exported."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.drop import DropPath
from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual
from timm.models.convnext import ConvNeXtBlock
from timm.models.efficientformer_v2 import ConvNorm
from timm.models.ghostnet import GhostBottleneck
from timm.models.resnet import BasicBlock
from timm.utils import reparameterize_model
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgedistill.specs import Contract, StudentSpec
from edgedistill.students.families import family

# Modules whose children follow one another in the order in which they are registered, wherever a batch norm follows a
# convolution. Elsewhere order says nothing (a pre-activation block registers its norm after a convolution that it precedes).
_SEQUENTIAL = (
    nn.Sequential,
    ConvNormAct,
    ConvNorm,
    BasicBlock,
    EdgeResidual,
    InvertedResidual,
    GhostBottleneck,
    ConvNeXtBlock,
)


class Normalised(nn.Module):
    """A network with its input normalisation inside: float [N, 3, R, R] in 0..255 to logits [N, classes]. `mean` and `std`
    are buffers [1, 3, 1, 1] on the 0..255 scale."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network((image - self.mean) / self.std)
        return logits


def build_student(spec: StudentSpec, contract: Contract) -> Normalised:
    """A fresh student in training mode on the CPU: float [N, 3, R, R] in 0..255 to logits [N, classes], normalisation
    inside. Weights come from torch's global generator. Raises InputError for an unknown family, and for a kernel or an
    expansion that it has no choice of."""
    chosen = family(spec.family)
    if contract.resolution != spec.resolution:
        raise ValueError(f"{spec.label} cannot keep a contract of {contract.resolution} px")
    network = chosen.build(spec, len(contract.labels))
    return Normalised(network, contract.mean, contract.std)


def deploy(module: nn.Module) -> nn.Module:
    """A deep copy as it is exported: eval mode, branches merged, batch norms folded into the convolutions before them,
    dropout and drop-path gone, no gradients. Equal to the original in eval mode up to rounding. Works on any model; in a
    teacher some batch norms stay, for the exporter to fold: those whose place the module tree does not tell."""
    merged: nn.Module = reparameterize_model(copy.deepcopy(module).eval(), inplace=True)
    for parent in list(merged.modules()):
        if isinstance(parent, _SEQUENTIAL):
            _fold_batch_norms(parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout | nn.Dropout2d | DropPath):
                setattr(parent, name, nn.Identity())
    return merged.eval().requires_grad_(False)


def _fold_batch_norms(parent: nn.Module) -> None:
    for (before, convolution), (name, norm) in pairwise(list(parent.named_children())):
        if type(convolution) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            setattr(parent, before, fuse_conv_bn_eval(convolution, norm))
            setattr(parent, name, getattr(norm, "act", nn.Identity()))
