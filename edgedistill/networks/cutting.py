"""A network cut down to a smaller one of the same make: blocks left out, channels taken away.

What is left keeps its weights. So a student that is cut from a pretrained network starts with most of what that has learnt.
The shapes that are left depend on `width` and `depth` alone; which channels they are depends on the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedistill.base.quiet import quiet
from edgedistill.networks.families.family import scaled_blocks, scaled_channels


class CannotBeCutError(ValueError):
    """A network that is not the same make once a part of it is gone."""


def cut(network: nn.Module, width: float, depth: float, side: int, multiple: int) -> nn.Module:
    """`network`, changed in place: of each run of blocks the first `depth` of them, of all other layers than the classifier
    `width` of the channels, in multiples of `multiple`. It takes [N, 3, `side`, `side`] and gives [N, classes].

    `width` and `depth` are above 0, at most 1. The channels that stay are those whose weights are largest (the L2 norm over
    all layers that share a channel, Fang et al. 2023, https://arxiv.org/abs/2301.12900). Later blocks of a run
    are left out first: each refines what the earlier ones found. Raises CannotBeCutError for networks whose shapes are fixed
    in their code.
    """
    shape, training = (1, 3, side, side), network.training
    image = torch.zeros(shape)
    network.eval()
    try:
        with torch.no_grad():
            before = network(image).shape
        if depth < 1:
            _shorten(network, depth, image)
        if width < 1:
            _narrow(network, width, image, multiple)
        with torch.no_grad():
            after = network(image).shape
    # A network whose code states its shapes fails in whatever way that code does.
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise CannotBeCutError(str(error) or type(error).__name__) from error
    if before != after:
        raise CannotBeCutError(f"it gives {list(after)} in place of {list(before)}")
    return network.train(training)


def _shorten(network: nn.Module, depth: float, image: Tensor) -> None:
    for name, removable in _removable(network, image).items():
        run = network.get_submodule(name)
        assert isinstance(run, nn.Sequential)
        gone = len(run) - scaled_blocks(len(run), depth)
        left_out = set(removable[max(0, len(removable) - gone) :]) if gone else set[str]()
        network.set_submodule(name, nn.Sequential(*(b for n, b in run.named_children() if n not in left_out)))


def _removable(network: nn.Module, image: Tensor) -> dict[str, list[str]]:
    """By run (an `nn.Sequential`, by its name) the blocks that give what they take in shape, in order, without its first
    block. A block has modules of its own: a layer alone is none."""
    found: dict[str, list[str]] = {}
    hooks = []

    def watch(run: str, name: str, block: nn.Module) -> None:
        def note(_module: nn.Module, taken: tuple[object, ...], given: object) -> None:
            tensors = [value for value in (*taken, given) if isinstance(value, Tensor)]
            if len(taken) == 1 and len(tensors) == 2 and tensors[0].shape == tensors[1].shape:
                found.setdefault(run, []).append(name)

        hooks.append(block.register_forward_hook(note))

    for run, module in network.named_modules():
        if run and type(module) is nn.Sequential:
            for name, block in list(module.named_children())[1:]:
                if next(block.children(), None) is not None:
                    watch(run, name, block)
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
    with quiet():  # it warns of parameters that belong to no layer, which it takes along rightly
        BasePruner(
            network,
            image,
            importance=GroupMagnitudeImportance(p=2),
            pruning_ratio_dict={layer: _share_gone(layer, width, multiple) for layer in _wide_layers(network)},
            ignored_layers=list(named) if isinstance(named, tuple | list) else [named],
            # Its defaults are dictionaries that all its objects share, and that keep every network alive.
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
        ).step()


def _wide_layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def _share_gone(layer: nn.Conv2d | nn.Linear, width: float, multiple: int) -> float:
    """The share of a layer's channels that the pruner takes away. It rounds down what stays: half a channel more than is
    wanted makes up for the rounding of the quotient."""
    channels = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
    kept = min(channels, scaled_channels(channels, width, multiple))
    return 1 - (kept + 0.5) / channels if kept < channels else 0.0
