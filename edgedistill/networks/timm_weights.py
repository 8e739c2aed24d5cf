"""timm's pretrained weights: whether there are any, and fetching them."""

from __future__ import annotations

from timm import create_model, get_pretrained_cfg
from timm.models import PretrainedCfg
from torch import nn

from edgedistill.base.errors import InputError, first_line
from edgedistill.base.quiet import quiet

SECONDS = 10
FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for on the hub."""


def pretrained_network(name: str) -> nn.Module:
    """timm's model `name` with its pretrained weights, for the classes that they are for. Raises InputError where timm has
    none, or where they are not on this machine and cannot be fetched."""
    settings = get_pretrained_cfg(name)
    if settings is None or not settings.has_weights:
        raise InputError(f"timm has no pretrained weights for {name}", fix="give [space] checkpoints, or leave it out")
    try:
        require_hub(settings)
        with quiet():
            network: nn.Module = create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the pretrained weights of {name} cannot be had: {first_line(error)}",
            fix="connect to the network once (they are kept), or give [space] checkpoints",
        ) from error
    return network


def require_hub(settings: PretrainedCfg) -> None:
    """Ask the hub once, where it has the weights and its cache has not: timm would ask for a minute. Raises OSError."""
    if settings.file or not (repository := settings.hf_hub_id):
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if not any(isinstance(try_to_load_from_cache(repository, file), str) for file in FILES):
        try:
            get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=SECONDS)
        except Exception as error:  # those of the library's HTTP client, which it has changed before
            raise OSError(f"the hub does not answer ({type(error).__name__})") from error
