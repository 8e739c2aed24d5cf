"""What a scheme does to the weights before any format rounds them: a network in, a network out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.quantize.bias_correction import correct_biases
from edgedistill.quantize.equalize import equalize
from edgedistill.quantize.graph import to_graph
from edgedistill.specs import Contract, QuantScheme


def rewritten(module: nn.Module, contract: Contract, calibration: NDArray[np.uint8], scheme: QuantScheme) -> nn.Module:
    """`module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to logits; not changed) equalised and with corrected biases as
    `scheme` asks, weights under their old names. `calibration` are uint8 images [n, 3, R, R] of the training split.

    The rewriting alone: `scheme.qat_epochs` is `qat.py`'s. Raises UnsupportedError where the module cannot be traced.
    """
    if not (scheme.equalized or scheme.bias_corrected):
        return module
    graph = to_graph(module, contract)
    if scheme.equalized:
        graph = equalize(graph, calibration)
    if scheme.bias_corrected:
        graph = correct_biases(graph, calibration, scheme)
    return graph
