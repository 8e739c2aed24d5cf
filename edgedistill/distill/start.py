"""What a student's training starts from: random weights, or those of a file. Importing this does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.base.errors import InputError
from edgedistill.base.store import file_sha256
from edgedistill.data.preprocessing import Statistics, scaled
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.specs import Contract, StudentSpec

if TYPE_CHECKING:
    from timm.models import PretrainedCfg
    from torch import nn


@dataclass(frozen=True)
class StartWeights:
    """Weights for a student of the family `timm:NAME`: those of the file `checkpoint`."""

    family: str
    checkpoint: Path

    @property
    def name(self) -> str:
        """timm's name of the model."""
        return self.family.partition(":")[2]

    @property
    def statistics(self) -> tuple[Statistics, Statistics]:
        """Mean and standard deviation of the images that timm's weights were trained with, on the scale 0..255."""
        return scaled(self._settings.mean), scaled(self._settings.std)

    @property
    def of_one_size(self) -> bool:
        """Whether shapes of the model's weights may depend on its resolution."""
        return bool(self._settings.fixed_input_size)

    @property
    def _settings(self) -> PretrainedCfg:
        from timm import get_pretrained_cfg

        settings = get_pretrained_cfg(self.name)
        assert settings is not None, "timm knows the model"
        return settings

    @property
    def identity(self) -> str:
        """What tells them from others, for the keys of stages: the file's hash."""
        return file_sha256(self.checkpoint)

    @property
    def described(self) -> str:
        """For a model card: an app's makers may have to say what their model comes from, and by which licence."""
        return f"{self.checkpoint.name} (SHA-256 {self.identity})"


def start_of(config: SpaceConfig, family: str) -> StartWeights | None:
    """What `[space]` says that the students of a family start from; None for random weights. Raises InputError for a file
    that is not there."""
    if (checkpoint := config.checkpoints.get(family)) is None:
        return None
    if not checkpoint.is_file():
        raise InputError(f"the checkpoint {checkpoint} is not a file", fix="check [space] checkpoints")
    return StartWeights(family, checkpoint)


def load_start(network: nn.Module, start: StartWeights, spec: StudentSpec, contract: Contract, seed: int) -> None:
    """Load into `network`, the student `spec` under `contract`, what `spec` leaves of them. Raises InputError as
    `whole_network` does."""
    from edgedistill.networks.families.timm_models import cut_to

    network.load_state_dict(cut_to(whole_network(start, contract, seed), spec).state_dict())


def whole_network(start: StartWeights, contract: Contract, seed: int) -> nn.Module:
    """timm's model as a whole, with these weights, under the contract of one of its students. A classifier for another
    number of classes is random, by `seed`. Raises InputError where the weights cannot be read, or are of another model."""
    import torch

    from edgedistill.distill.teachers.checkpoint import classifier, load_checkpoint
    from edgedistill.networks.families.timm_models import timm_network

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        whole = timm_network(start.name, contract.width, contract.resolution)
    load_checkpoint(whole, start.checkpoint, replaced=classifier(whole))
    return whole
