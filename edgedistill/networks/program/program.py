"""The one torch program that every format is made from, and the numbers that every artifact is held against."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgedistill.base.arrays import ImageRows
from edgedistill.base.errors import Problem, TrialFailure, UnsupportedError, first_line
from edgedistill.documents.specs import Contract
from edgedistill.networks.program.passes import apply_passes
from edgedistill.networks.program.probes import probe_images

_RELATIVE_TOLERANCE = 1e-4
_ROUNDED_IMAGES = 8
ROUNDINGS = 4
"""So many times what rounding does to a module (`rounding_of`) it may do to a program or file, whose sums run in another
order."""


def to_program(module: nn.Module, contract: Contract) -> ExportedProgram:
    """`module` as an ATen program of static batch 1: float32 [1, 3, R, R] in 0..255 to outputs float32 [1, width].

    `module` is a deployed student or a teacher: in eval mode, on the CPU, normalisation inside; it is not changed. Batch
    norms and the division by std are folded into the convolutions beside them.

    Raises TrialFailure where the module breaks the contract, gives numbers that are not finite, or where the program's
    outputs differ from the module's by more than 1e-4 of their size and by more than four times what the module's own
    float32 rounding makes; UnsupportedError where torch.export cannot trace it.
    """
    image = torch.from_numpy(probe_images(contract)).float()
    with torch.no_grad():
        expected = _checked_output(module, image, contract)
        try:
            program = torch.export.export(module, (image,), strict=False)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise UnsupportedError(
                f"torch.export cannot trace {type(module).__name__}: {first_line(error)}",
                fix="make its forward free of branches on tensor values and of operations outside torch",
            ) from error
        apply_passes(program)
        actual = program.module(check_guards=False)(image)
    difference = float((actual - expected).abs().max())
    limit = _RELATIVE_TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= limit:
        limit = max(limit, ROUNDINGS * rounding_of(module, probe_images(contract, _ROUNDED_IMAGES)))
    if not difference <= limit:
        raise TrialFailure(
            f"the exported program's outputs differ from the module's by {difference:.3g} (allowed {limit:.3g})",
            fix="the module's forward is not a fixed function of its input; remove randomness and state from it",
        )
    return program


def rounding_of(module: nn.Module, images: NDArray[np.uint8], program: ExportedProgram | None = None) -> float:
    """What rounding does to a module: the largest difference of any output between float32 and a float64 copy, for uint8
    images [n, 3, R, R], one at a time. Deep networks magnify rounding, so that two right programs differ by as much;
    `program`, the same sums in another order, is a second sample of it. 0 for a module that only computes in float32, or
    that does not answer the same twice."""
    largest = 0.0
    try:
        exact = copy.deepcopy(module).double()
        samples = [module, program.module(check_guards=False)] if program is not None else [module]
        with torch.no_grad():
            for image in images:
                pixels = torch.from_numpy(image[None]).float()
                if not torch.equal(module(pixels), module(pixels)):
                    return 0.0
                right = exact(pixels.double())
                largest = max(largest, *(float((right - sample(pixels)).abs().max()) for sample in samples))
    except RuntimeError:
        return 0.0
    return largest


def reference_logits(module: nn.Module, images: ImageRows, batch: int = 64) -> NDArray[np.float32]:
    """Outputs float32 [n, width] of the fp32 torch module for uint8 images [n, 3, R, R], `batch` at a time: what each
    artifact's parity is measured against. `module` is in eval mode; it runs where its parameters are."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(images[start : start + batch]).to(device).float()).float().cpu().numpy()
            for start in range(0, len(images), batch)
        ]
    return np.concatenate(parts)


def _checked_output(module: nn.Module, image: Tensor, contract: Contract) -> Tensor:
    name = type(module).__name__
    training = [path or name for path, inner in module.named_modules() if inner.training]
    foreign = [path for path, p in module.named_parameters() if p.device.type != "cpu" or p.dtype != torch.float32]
    problems = [
        *([Problem(training[0], f"{len(training)} modules are in training mode", "call .eval()")] if training else []),
        *([Problem(foreign[0], "not float32 on the CPU", "call .float().cpu()")] if foreign else []),
    ]
    if problems:
        raise TrialFailure(f"{name} is not ready for export", problems=problems)
    output = module(image)
    width = contract.width
    if not isinstance(output, Tensor) or tuple(output.shape) != (1, width) or output.dtype != torch.float32:
        got = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise TrialFailure(f"{name} gives {got}, the contract asks for torch.float32 (1, {width})")
    if not bool(torch.isfinite(output).all()):
        raise TrialFailure(f"{name} gives numbers that are not finite", fix="its weights diverged; train it again")
    return output
