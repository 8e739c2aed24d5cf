"""Where tensors are taken from a network: its output, what goes into its classifier, or the output of a named module."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.base.errors import InputError
from edgedistill.documents.recipes import FEATURES, OUTPUTS


def classifier_path(network: nn.Module, classes: int) -> str:
    """The path of the classifier: the last linear layer or 1x1 convolution with `classes` outputs. Raises InputError for a
    network without one."""
    found: list[str] = [path for path, module in network.named_modules() if layer_width(module) == classes]
    if not found:
        raise InputError(
            f"no layer of {classes} outputs was found in {type(network).__name__}, so its features cannot be taken",
            fix="use a recipe of logits alone, or name a module of the teacher as tap",
        )
    return found[-1]


def classifier_of(network: nn.Module, classes: int) -> nn.Linear | nn.Conv2d:
    """The classifier itself. Raises InputError as `classifier_path` does."""
    found = network.get_submodule(classifier_path(network, classes))
    assert isinstance(found, nn.Linear | nn.Conv2d)
    return found


def layer_width(module: nn.Module | None) -> int | None:
    """Outputs of a linear layer or a 1x1 convolution; None for anything else."""
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) else None


def require_tap(network: nn.Module, tap: str, classes: int) -> None:
    """Raises InputError where `network` has no such tap."""
    if tap == FEATURES:
        classifier_path(network, classes)
    elif tap not in OUTPUTS and tap not in dict(network.named_modules()):
        fix = f"name one like {', '.join(_near(network, tap))}"
        raise InputError(f"[[train.terms]] tap: the teacher has no module {tap!r}", fix=fix)


def _near(network: nn.Module, tap: str) -> list[str]:
    """Paths of modules that may be meant by `tap`: a library names its own without what the teacher is wrapped in."""
    paths = [path for path, _ in network.named_modules() if path]
    named = {path.partition(".")[2] or path: path for path in paths} | {path: path for path in paths}
    if tap in named:
        return [named[tap]]
    return [named[name] for name in difflib.get_close_matches(tap, named)] or paths[-3:]


@contextmanager
def tapped(network: nn.Module, tap: str, classes: int) -> Iterator[list[Tensor]]:
    """While the context lasts, each call of `network` leaves in the list what went through `tap`, in place of what an
    earlier call left; a map always as [B, D, H, W]. The network is as before afterwards, and copies of it never have
    hooks."""
    kept: list[Tensor] = []
    last = tap not in (*OUTPUTS, FEATURES) and _channels_are_last(network, tap)

    def keep(tensor: Any) -> None:
        found = tensor[0] if isinstance(tensor, tuple) else tensor
        kept[:] = [found.permute(0, 3, 1, 2) if last and found.ndim == 4 else found]

    if tap in OUTPUTS:
        handle = network.register_forward_hook(lambda module, given, output: keep(output))
    elif tap == FEATURES:
        handle = classifier_of(network, classes).register_forward_pre_hook(lambda module, given: keep(given))
    else:
        handle = network.get_submodule(tap).register_forward_hook(lambda module, given, output: keep(output))
    try:
        yield kept
    finally:
        handle.remove()


def _channels_are_last(network: nn.Module, path: str) -> bool:
    """Whether the module at `path` gives maps as [B, H, W, D]: timm's Swin networks say so of themselves, and all of their
    modules do but convolutions."""
    said = any(getattr(module, "output_fmt", None) == "NHWC" for module in network.modules())
    return said and not isinstance(network.get_submodule(path), nn.Conv2d)


def as_rows(tensor: Tensor) -> Tensor:
    """A vector an image, [B, D]: a map [B, D, H, W] by its mean over space, tokens [B, N, D] by their mean. Raises
    InputError for another shape."""
    if tensor.ndim == 4:
        return tensor.mean((2, 3))
    if tensor.ndim == 3:
        return tensor.mean(1)
    if tensor.ndim != 2:
        raise InputError(
            f"a tap gives a tensor of shape {list(tensor.shape)}, which is no vector, tokens or map for each image",
            fix="name another module as tap",
        )
    return tensor


@torch.inference_mode()
def tap_width(network: nn.Module, tap: str, classes: int, side: int) -> int:
    """Numbers that `network` (eval, float 0..255 [N, 3, side, side]) gives for an image at `tap`. Raises InputError where it
    has none."""
    require_tap(network, tap, classes)
    weight = next(network.parameters(), torch.empty(0))
    with tapped(network, tap, classes) as kept:
        network(torch.zeros(1, 3, side, side, device=weight.device))
    if not kept:
        raise InputError(f"[[train.terms]] tap: the teacher does not use its module {tap!r}", fix="name another one")
    rows = as_rows(kept[0])
    if len(rows) != 1:
        raise InputError(
            f"[[train.terms]] tap: the teacher's module {tap!r} gives {len(rows)} rows for an image, as windows do",
            fix="name the block that it is part of",
        )
    return rows.shape[1]
