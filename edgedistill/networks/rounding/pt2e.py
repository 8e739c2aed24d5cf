"""PT2E: a torch program with quantise-dequantise pairs at calibrated scales, from any vendor's quantiser."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from edgedistill.base.errors import UnsupportedError, first_line
from edgedistill.base.quiet import quiet, quiet_import
from edgedistill.networks.program.passes import apply_passes


def fake_quantize(module: nn.Module, calibration: NDArray[np.uint8], quantizer: Any, *, batch: int = 32) -> GraphModule:
    """`module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to logits; not changed) as a program for any batch size whose
    weights are integers and whose activations are rounded as `quantizer`, an object of torchao's Quantizer, annotates.
    `calibration` are uint8 images [n, 3, R, R], run `batch` at a time.

    Raises UnsupportedError where torch.export cannot trace the module at any batch size.
    """
    with quiet_import():
        pt2e = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    # Two images at least: torch.export takes a dimension of size one for a constant.
    program = exported(module, as_input(np.concatenate([calibration[:2], calibration[:2]])[:2]))
    with torch.no_grad(), quiet():
        prepared = pt2e.prepare_pt2e(program.module(), quantizer)
        run_batches(prepared, calibration, batch)
        quantized: GraphModule = pt2e.convert_pt2e(prepared)
    return quantized


def exported(module: nn.Module, example: torch.Tensor) -> ExportedProgram:
    """`module` as a program for any batch size, traced with `example` float32 [2 or more, 3, R, R], after the passes. Raises
    UnsupportedError where torch.export cannot trace it so."""
    with torch.no_grad(), quiet():
        try:
            size = torch.export.Dim("batch", min=1)
            program = torch.export.export(module, (example,), dynamic_shapes=({0: size},))
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise UnsupportedError(
                f"torch.export cannot trace {type(module).__name__} at any batch size: {first_line(error)}",
                fix="make its forward free of branches on tensor values and of constant batch sizes",
            ) from error
        apply_passes(program)
    return program


def as_input(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 images [n, 3, R, R] as the float32 that programs take."""
    return torch.from_numpy(np.ascontiguousarray(images)).float()


def run_batches(network: Callable[[torch.Tensor], Any], images: NDArray[np.uint8], batch: int = 32) -> list[Any]:
    """What `network` gives for uint8 images [n, 3, R, R], `batch` at a time, without gradients."""
    with torch.no_grad():
        return [network(as_input(images[start : start + batch])) for start in range(0, len(images), batch)]
