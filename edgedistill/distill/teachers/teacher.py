"""The teacher as the rest of the package sees it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from edgedistill.documents.specs import Contract


@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded teacher. `module` takes float [N, 3, R, R] in 0..255 (R = `contract.resolution`, normalisation inside) and
    gives float logits [N, classes]; it is in eval mode on the CPU. `key` hashes architecture and weights."""

    name: str
    module: nn.Module
    contract: Contract
    key: str
    parameters: int
