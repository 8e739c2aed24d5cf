"""From a spec to a student that can be trained, and from a trained one to the module that is exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.families.registry import family
from edgedistill.networks.tasks import task_of


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
    expansion that it has no choice of; ValueError where the contract has another resolution."""
    chosen = family(spec.family)
    if contract.resolution != spec.resolution:
        raise ValueError(f"{spec.label} cannot keep a contract of {contract.resolution} px")
    return Normalised(
        chosen.build(spec, task_of(contract).head_width(len(contract.labels))), contract.mean, contract.std
    )
