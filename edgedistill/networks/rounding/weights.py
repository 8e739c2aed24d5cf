"""What a scheme does to the weights before any format rounds them: a network in, a network out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import nn
from torch.fx import GraphModule

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.store import write_atomic
from edgedistill.documents.specs import Contract, QuantScheme
from edgedistill.networks.rounding.bias_correction import correct_biases
from edgedistill.networks.rounding.equalize import equalize, seams_of
from edgedistill.networks.rounding.graph import add_to_bias, layers_of, overwrite, to_graph


def rewritten(
    module: nn.Module, contract: Contract, calibration: NDArray[np.uint8], scheme: QuantScheme
) -> GraphModule:
    """`module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to logits; not changed) equalised and with corrected biases as
    `scheme` asks, weights under their old names. `calibration` are uint8 images [n, 3, R, R] of the training split.

    Training for `scheme.qat_epochs` is no part of it. Raises UnsupportedError where the module cannot be traced, or has
    no channels to even out.
    """
    graph = to_graph(module, contract)
    if scheme.equalized:
        if not seams_of(graph):
            raise UnsupportedError(
                "no neighbouring layers have channels that can be evened out: something other than ReLU or pooling stands "
                "between them",
                fix="correct biases, or keep layers in floating point",
            )
        graph = equalize(graph, calibration)
    if scheme.bias_corrected:
        graph = correct_biases(graph, calibration, scheme)
    return graph


def write_weights(graph: GraphModule, path: Path) -> None:
    """The graph's tensors as a safetensors file, whole or not at all."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in graph.state_dict().items()}
    write_atomic(path, save(state))


def with_weights(module: nn.Module, contract: Contract, path: Path) -> GraphModule:
    """`module`, from which a rewritten or trained graph was made, with the weights that `write_weights` left at `path`."""
    graph = to_graph(module, contract)
    state = load_file(path)
    for layer in layers_of(graph).values():
        if layer.bias is None and (added := state.get(f"{layer.name}.bias")) is not None:
            add_to_bias(graph, layer, torch.zeros_like(added))
    for name, value in state.items():
        overwrite(graph, name, value)
    return graph
