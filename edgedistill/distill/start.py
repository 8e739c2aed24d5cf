"""What a student's training starts from: random weights, timm's, or a file's. Importing this does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.base.errors import InputError, first_line
from edgedistill.base.store import file_sha256
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.specs import Contract

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class StartWeights:
    """Weights for a student of the family `timm:NAME`: those of the file `checkpoint`, or timm's own where it is None."""

    family: str
    checkpoint: Path | None = None

    @property
    def identity(self) -> str:
        """What tells them from others, for the keys of stages: the file's hash, or the model's name with its tag."""
        return self.family if self.checkpoint is None else file_sha256(self.checkpoint)


def start_of(config: SpaceConfig, family: str) -> StartWeights | None:
    """What `[space]` says that the students of a family start from; None for random weights. Raises InputError for a file
    that is not there."""
    if family not in config.models:
        return None
    checkpoint = config.checkpoints.get(family)
    if checkpoint is None:
        return StartWeights(family) if config.pretrained else None
    if not checkpoint.is_file():
        raise InputError(f"the checkpoint {checkpoint} is not a file", fix="check [space] checkpoints")
    return StartWeights(family, checkpoint)


def load_start(network: nn.Module, start: StartWeights, contract: Contract) -> None:
    """Load them into `network`, timm's model under `contract`. A classifier for another number of classes stays as
    `network` has it. Raises InputError where the weights are of another model, or cannot be fetched."""
    if start.checkpoint is not None:
        from edgedistill.distill.teachers.checkpoint import classifier, load_checkpoint

        load_checkpoint(network, start.checkpoint, replaced=classifier(network))
        return
    from edgedistill.networks.families.timm_models import has_weights, timm_network

    name = start.family.partition(":")[2]
    if not has_weights(name):
        raise InputError(f"timm has no pretrained weights for {name}", fix="give [space] checkpoints, or leave it out")
    try:
        trained = timm_network(name, len(contract.labels), contract.resolution, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the pretrained weights of {name} cannot be had: {first_line(error)}",
            fix="connect to the network once (they are kept), or give [space] checkpoints",
        ) from error
    network.load_state_dict(trained.state_dict())
