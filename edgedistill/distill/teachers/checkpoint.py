"""Read a checkpoint as data, never as code, and load it into a network whose shape it must have."""

from __future__ import annotations

import argparse
import math
import pickle
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from edgedistill.base.errors import InputError, KeysDifferError, Problem
from edgedistill.distill.teachers.checkpoint_file import damaged, not_safetensors, require_whole

# Where training scripts put the weights; an average comes first, as it does in timm's own loader.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "weights",
)
# torch's words for a pickle that names a class or function beyond those of tensors.
_CODE = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
_REFUSED = re.compile(r"WeightsUnpickler error:\s*(.+)")


def load_checkpoint(network: nn.Module, path: Path, *, replaced: Sequence[str] = ()) -> None:
    """Load the weights in `path` into `network`. The modules named in `replaced` keep their own where the file has none, or
    some of another shape; what the file has of them and the network has not is left out.

    Takes a safetensors file or a torch checkpoint that holds tensors only, a plain state dict or one inside a usual wrapper
    ("state_dict", "model", ...), with or without a common prefix ("module."). Raises KeysDifferError listing every key that
    is missing, unexpected or of another shape, InputError as `read_state` does.
    """
    state = _without_prefix(read_state(path), network)
    own = network.state_dict()
    _resample_positions(state, network)
    for name in [n for n in state if n not in own and n.rpartition(".")[0] in replaced]:
        del state[name]
    for name in [n for n in own if n.rpartition(".")[0] in replaced]:
        if name not in state or state[name].shape != own[name].shape:
            state[name] = own[name]
    problems = [
        Problem(name, f"shape {_shape(state[name])} in the checkpoint, {_shape(own[name])} in the model")
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    # Batch norm counts its batches only to average without a momentum; older checkpoints lack the count.
    problems += [
        Problem(name, f"missing in the checkpoint, {_shape(own[name])} in the model")
        for name in own
        if name not in state and not name.endswith("num_batches_tracked")
    ]
    problems += [
        Problem(name, f"{_shape(state[name])} in the checkpoint, unknown to the model")
        for name in state
        if name not in own
    ]
    if problems:
        raise KeysDifferError(
            f"the checkpoint {path} is not of this model: {len(problems)} of {len(own.keys() | state.keys())} keys differ",
            problems=problems,
            fix="give the model and arguments that the checkpoint was trained with",
        )
    network.load_state_dict(state, strict=False)


def _resample_positions(state: dict[str, Tensor], network: nn.Module) -> None:
    """Positions of a transformer of timm that was trained at another resolution are resampled to the network's."""
    own, grid = getattr(network, "pos_embed", None), getattr(getattr(network, "patch_embed", None), "grid_size", None)
    found = state.get("pos_embed")
    if own is None or grid is None or found is None or found.ndim != 3 or found.shape[2] != own.shape[2]:
        return
    prefix = own.shape[1] - grid[0] * grid[1]
    places = found.shape[1] - prefix
    if found.shape != own.shape and places > 0 and math.isqrt(places) ** 2 == places:
        state["pos_embed"] = resample_abs_pos_embed(found, new_size=list(grid), num_prefix_tokens=prefix)


def classifier(network: nn.Module) -> tuple[str, ...]:
    """Names of the modules that timm calls a model's classifier; none for other networks."""
    settings = getattr(network, "pretrained_cfg", None)
    named = settings.get("classifier") if isinstance(settings, dict) else None
    return (named,) if isinstance(named, str) else tuple(named or ())


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU. Raises InputError for a file that is missing, a folder, damaged,
    not a checkpoint, or a pickle that holds more than tensors and plain values."""
    content: Any = _read_torch(path) if require_whole(path) == "torch" else _read_safetensors(path)
    return _unwrapped(content, path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise not_safetensors(path, error) from error


def _read_torch(path: Path) -> Any:
    """Training scripts keep their options in the file as an argparse.Namespace: plain values, safe to rebuild."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            # Of an unusual pickle protocol: where it matters, an error follows.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if asked := _CODE.search(str(error)):
            raise InputError(
                f"the checkpoint {path} holds more than weights: opening it would run {asked[1]}; it is not opened",
                fix="save the state dict as safetensors: safetensors.torch.save_file(model.state_dict(), PATH)",
            ) from error
        raise _damaged(path, error) from error
    # On damaged bytes the unpickler raises whatever the opcode at hand does.
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError, struct.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    text = str(error) or type(error).__name__
    # torch's first line is advice to load the file with code and all; the reason stands further down.
    refused = _REFUSED.search(text)
    reason = refused[1] if refused else text.splitlines()[0]
    return damaged(path, reason)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"the checkpoint {path} holds no state dict", fix="save model.state_dict() as safetensors")
    problems = [
        Problem(str(name), f"a {type(value).__name__}, not a tensor")
        for name, value in content.items()
        if not isinstance(value, Tensor)
    ]
    if problems:
        raise InputError(
            f"the checkpoint {path} holds no plain state dict",
            problems=problems,
            fix=f"save model.state_dict() as safetensors, or put it under one of: {', '.join(_WRAPPERS)}",
        )
    return dict(content)


def _without_prefix(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Without the first names that all keys share and the network does not have: DataParallel's `module.`, torch.compile's
    `_orig_mod.`, a training wrapper's `model.`."""
    own = network.state_dict()
    while len(heads := {name.partition(".")[0] for name in state}) == 1:
        prefix = f"{heads.pop()}."
        if any(name.startswith(prefix) for name in own) or not all(name.startswith(prefix) for name in state):
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
