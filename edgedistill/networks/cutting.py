"""A network cut down to a smaller one of the same make: blocks left out, channels taken away.

What is left keeps its weights. So a student that is cut from a pretrained network starts with most of what that has learnt.
The shapes that are left depend on `width` and `depth` alone; which channels they are depends on the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from edgedistill.base.quiet import quiet
from edgedistill.networks.families.family import scaled_blocks, scaled_channels

FAILURES = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)
"""What a network's own code raises on an image or on layers that it is not made for."""

Wide: TypeAlias = nn.Conv2d | nn.Linear

_MOST_INDICES: Final = 2**20
"""Channels times pixels of a layer that its channels are reshaped to."""


class CannotBeCutError(ValueError):
    """A network that is not the same make once a part of it is gone."""


def cut(network: nn.Module, width: float, depth: float, side: int, multiple: int) -> nn.Module:
    """`network`, changed in place: of each run of blocks the first `depth` of them, of all other layers than the classifier
    `width` of the channels, in multiples of `multiple`. A grouped convolution keeps its groups, and has multiples of these.
    A layer that shares its channels with the classifier keeps all. It takes [N, 3, `side`, `side`] and gives [N, classes].

    `width` and `depth` are above 0, at most 1. The channels that stay are those whose weights are largest (the L2 norm over
    all layers that share a channel, Fang et al. 2023, https://arxiv.org/abs/2301.12900). Later blocks of a run
    are left out first: each refines what the earlier ones found. Raises CannotBeCutError for networks whose shapes are fixed
    in their code or would depend on the weights, and what the whole network raises on images of this size.
    """
    training, image = network.training, torch.zeros(1, 3, side, side)
    network.eval()
    with torch.no_grad():
        before = network(image).shape
    try:
        if depth < 1:
            _shorten(network, depth, image)
        if width < 1:
            _narrow(network, width, image, multiple)
        with torch.no_grad():
            after = network(image).shape
    except FAILURES as error:
        raise CannotBeCutError(str(error) or type(error).__name__) from error
    if before != after:
        raise CannotBeCutError(f"it gives {list(after)} in place of {list(before)}")
    return network.train(training)


def _shorten(network: nn.Module, depth: float, image: Tensor) -> None:
    for run, removable in _removable(network, image).items():
        gone = min(len(run) - scaled_blocks(len(run), depth), len(removable))
        for block in removable[len(removable) - gone :]:
            del run[list(run).index(block)]


def _removable(network: nn.Module, image: Tensor) -> dict[nn.Sequential, list[nn.Module]]:
    """By run the blocks that give what they take in shape, in order, without its first block. A block has modules of its
    own: a layer alone is none. It may be a run itself."""
    found: dict[nn.Sequential, list[nn.Module]] = {}
    hooks = []

    def watch(run: nn.Sequential, block: nn.Module) -> None:
        def note(_module: nn.Module, taken: tuple[object, ...], given: object) -> None:
            tensors = [value for value in (*taken, given) if isinstance(value, Tensor)]
            if len(taken) == 1 and len(tensors) == 2 and tensors[0].shape == tensors[1].shape:
                found.setdefault(run, []).append(block)

        hooks.append(block.register_forward_hook(note))

    for run in network.modules():
        if run is not network and type(run) is nn.Sequential:
            for block in list(run)[1:]:
                if next(block.children(), None) is not None:
                    watch(run, block)
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return found


def _narrow(network: nn.Module, width: float, image: Tensor, multiple: int) -> None:
    from torch_pruning.pruner import BasePruner  # type: ignore[import-untyped]
    from torch_pruning.pruner.importance import GroupMagnitudeImportance  # type: ignore[import-untyped]

    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    named = getattr(network, "get_classifier", lambda: linear[-1])()
    before = {layer: _channels(layer) for layer in network.modules() if isinstance(layer, Wide)}
    kept = {layer: min(count, scaled_channels(count, width, multiple)) for layer, count in before.items()}
    # It warns of parameters that belong to no layer, which it takes along rightly.
    with quiet(), _few_indices():
        BasePruner(
            network,
            image,
            importance=GroupMagnitudeImportance(p=2),
            pruning_ratio_dict={layer: _share_gone(count, kept[layer]) for layer, count in before.items()},
            ignored_layers=list(named) if isinstance(named, tuple | list) else [named],
            # Its defaults are dictionaries that all its objects share, and that keep every network alive.
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
        ).step()
    # Another number of channels would depend on which of them are left, and so on the weights. A depthwise convolution has
    # those of the layer before.
    wide = [layer for layer in before if not (isinstance(layer, nn.Conv2d) and layer.groups == layer.out_channels > 1)]
    groups = {1, *(layer.groups for layer in wide if isinstance(layer, nn.Conv2d))}
    for layer in wide:
        found, wanted = _channels(layer), kept[layer]
        if found != before[layer] and all(found != wanted - wanted % number for number in groups):
            raise CannotBeCutError(f"a layer has {found} channels left in place of {wanted}")


@contextmanager
def _few_indices() -> Iterator[None]:
    """Where an attention mixes its heads, torch-pruning goes through its reshapes again and again, each time with some
    times as many indices (https://github.com/VainF/Torch-Pruning/issues/430 is such a case): it fills the memory and does
    not end. Within this context it raises CannotBeCutError instead."""
    from torch_pruning.dependency.index_mapping import _FlattenIndexMapping  # type: ignore[import-untyped]

    spread = _FlattenIndexMapping.__call__

    def bounded(mapping: Any, indices: Sequence[Any]) -> Any:
        if not mapping.reverse and len(indices) * mapping._stride > _MOST_INDICES:
            raise CannotBeCutError("its attention mixes heads in a way that cannot be followed")
        return spread(mapping, indices)

    _FlattenIndexMapping.__call__ = bounded
    try:
        yield
    finally:
        _FlattenIndexMapping.__call__ = spread


def _channels(layer: Wide) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _share_gone(channels: int, kept: int) -> float:
    """The share of a layer's channels that the pruner takes away. It rounds down what stays: half a channel more than is
    wanted makes up for the rounding of the quotient."""
    return 1 - (kept + 0.5) / channels if kept < channels else 0.0
