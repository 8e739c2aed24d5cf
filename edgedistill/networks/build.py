"""From a spec to a student that can be trained, and from a trained one to the module that is exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.families.registry import family

LEAST_LENGTH = 1e-6
"""Of a vector's largest number, below which it is not scaled up."""


class Normalised(nn.Module):
    """A network with its input normalisation inside: float [N, 3, R, R] in 0..255 to logits [N, classes], or with `unit` to
    vectors [N, D] of length 1. `mean` and `std` are buffers [1, 3, 1, 1] on the 0..255 scale."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.unit = unit
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        outputs: Tensor = self.network((image - self.mean) / self.std)
        return at_unit_length(outputs) if self.unit else outputs


def at_unit_length(rows: Tensor) -> Tensor:
    """Rows [N, D] divided by their Euclidean length. The largest number of each is brought to 1 first: squares of what
    float16 holds may lie outside of it."""
    scaled = rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=LEAST_LENGTH)
    # One operation for the length: products would be quantised by what quantises products.
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp(min=LEAST_LENGTH)
    unit: Tensor = scaled / length
    return unit


def build_student(spec: StudentSpec, contract: Contract) -> Normalised:
    """A fresh student in training mode on the CPU: float [N, 3, R, R] in 0..255 to the outputs of the contract's task,
    normalisation inside. Weights come from torch's global generator. Raises InputError for an unknown family, and for a
    kernel or an expansion that it has no choice of; ValueError where the contract has another resolution."""
    chosen = family(spec.family)
    if contract.resolution != spec.resolution:
        raise ValueError(f"{spec.label} cannot keep a contract of {contract.resolution} px")
    network = chosen.build(spec, contract.width)
    return Normalised(network, contract.mean, contract.std, unit=contract.vector is not None)
