"""timm's pretrained weights: whether there are any, and fetching them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm import create_model, get_pretrained_cfg
from timm.models import PretrainedCfg
from torch import nn

from edgedistill.base.errors import InputError, NotFetchedError, first_line
from edgedistill.base.quiet import quiet

SECONDS = 10
FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for on the hub."""


def pretrained_settings(name: str) -> PretrainedCfg:
    """What timm knows of the pretrained weights of its model `name`. Raises InputError where it has none."""
    settings = get_pretrained_cfg(name)
    if settings is None or not settings.has_weights:
        raise InputError(f"timm has no pretrained weights for {name}", fix="give [space] checkpoints, or leave it out")
    return settings


def pretrained_network(name: str) -> nn.Module:
    """timm's model `name` with its pretrained weights, for the classes that they are for. Raises InputError where timm has
    none, NotFetchedError where they are not on this machine and cannot be fetched."""
    settings = pretrained_settings(name)
    try:
        return with_weights(name, settings)
    except (OSError, RuntimeError) as error:
        raise NotFetchedError(
            f"the pretrained weights of {name} cannot be had: {first_line(error)}",
            fix="connect to the network once (they are kept), or give [space] checkpoints",
        ) from error


def with_weights(name: str, settings: PretrainedCfg, **arguments: Any) -> nn.Module:
    """timm's model `name`, built with `arguments`, and the weights of `settings`. Where the hub has them and its cache has
    not, the hub is asked once: timm would ask for a minute. Raises OSError where they cannot be fetched or read, and what
    timm raises for its arguments."""
    kept = None if settings.file or not settings.hf_hub_id else _kept(settings.hf_hub_id)
    try:
        with quiet():  # without a network, each of the hub's retries would be told; the error says it once
            network: nn.Module = create_model(name, pretrained=True, **arguments)
    except (OSError, TypeError, ValueError, RuntimeError, AssertionError):
        raise
    except Exception as error:  # of the hub's HTTP client, or of what reads the file
        way_out = f"; remove {kept.parents[2]} if it is damaged" if kept else ""
        raise OSError(f"{first_line(error)}{way_out}") from error
    return network


def _kept(repository: str) -> Path | None:
    """The file in the hub's cache; None where the hub has to be asked, and answers. Raises OSError where it does not."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    for file in FILES:
        if isinstance(found := try_to_load_from_cache(repository, file), str):
            return Path(found)
    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=SECONDS)
    except Exception as error:  # those of the library's HTTP client, which it has changed before
        raise OSError(f"the hub does not answer ({type(error).__name__})") from error
    return None
