"""A trained network as it is deployed: branches merged, batch norms folded."""

from __future__ import annotations

import copy
from itertools import pairwise

from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.drop import DropPath
from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual
from timm.models.convnext import ConvNeXtBlock
from timm.models.efficientformer_v2 import ConvNorm
from timm.models.ghostnet import GhostBottleneck
from timm.models.resnet import BasicBlock
from timm.utils import reparameterize_model
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
