"""A network cut down to a smaller one of the same make: blocks left out, channels taken away.

What is left keeps its weights. So a student that is cut from a pretrained network starts with most of what that has learnt.
The shapes that are left depend on `width` and `depth` alone; which channels they are depends on the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from edgedistill.base.quiet import quiet
from edgedistill.networks.scaling import scaled_blocks, scaled_channels

FAILURES = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)
"""What a network's own code raises on an image or on layers that it is not made for."""

Wide: TypeAlias = nn.Conv2d | nn.Linear

_MOST_LAYERS: Final = 2**11
_MOST_CHANNELS: Final = 2**21
"""Of a group of layers that share their channels. Of timm's DenseNet-121 one has 102 layers, of its ResNet-50 one has 40,960
channels, each layer's counted."""


class CannotBeCutError(ValueError):
    """A network that is not the same make once a part of it is gone."""


def cut(network: nn.Module, width: float, depth: float, side: int, multiple: int) -> nn.Module:
    """`network`, changed in place: of each run of blocks the first `depth` of them, of all other layers than the classifier
    `width` of the channels, in multiples of `multiple`. A grouped convolution keeps its groups, and has multiples of these.
    A layer that shares its channels with the classifier keeps all. It takes [N, 3, `side`, `side`] and gives [N, classes].

    `width` and `depth` are above 0, at most 1. The channels that stay are those whose weights are largest (the L2 norm over
    all layers that share a channel, Fang et al. 2023, https://arxiv.org/abs/2301.12900). Later blocks of a run
    are left out first: each refines what the earlier ones found. Raises CannotBeCutError for networks whose shapes are fixed
    in their code or would depend on the weights, or whose channels cannot be followed from layer to layer, and what the
    whole network raises on images of this size.
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
    with quiet(), _bounded_groups():
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
def _bounded_groups() -> Iterator[None]:
    """torch-pruning goes through some slices and reshapes again and again, with other indices each time: it does not end
    (https://github.com/VainF/Torch-Pruning/issues/430 is such a case), and may fill the memory. Within this context it
    raises CannotBeCutError once a group has many more layers and channels than those of a network that can be cut."""
    from torch_pruning.dependency import Group  # type: ignore[import-untyped]

    add, sizes = Group.add_dep, WeakKeyDictionary[Any, tuple[int, int]]()

    def bounded(group: Any, dep: Any, idxs: Sequence[Any]) -> None:
        layers, channels = sizes.get(group, (0, 0))
        sizes[group] = layers, channels = layers + 1, channels + len(idxs)
        if layers > _MOST_LAYERS or channels > _MOST_CHANNELS:
            raise CannotBeCutError("its channels depend on one another in a way that cannot be followed")
        add(group, dep, idxs)

    Group.add_dep = bounded
    try:
        yield
    finally:
        Group.add_dep = add


def _channels(layer: Wide) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _share_gone(channels: int, kept: int) -> float:
    """The share of a layer's channels that the pruner takes away. It rounds down what stays: half a channel more than is
    wanted makes up for the rounding of the quotient."""
    return 1 - (kept + 0.5) / channels if kept < channels else 0.0
