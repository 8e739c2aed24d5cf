"""Record what a module asks of torch: one entry an aten call that reads an activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgedistill.networks.shapes import Shapes, run, storage_of, tensors_in
from edgedistill.networks.structure import BYTES_PER_ELEMENT

# Calls that give the same values under another shape: no work in an executed graph.
_ALIASES = frozenset(
    {"view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "squeeze", "unsqueeze", "expand"}
    | {"detach", "alias", "clone", "contiguous", "dropout", "native_dropout", "lift_fresh"}
)


@dataclass(frozen=True, slots=True)
class Call:
    """One aten call. `inputs` are numbers of the activations it reads (0 is the image, call i makes i + 1), `shapes` those
    of all its tensors in the order of its arguments, weights included; `weight_elements` counts the elements of parameters,
    each at its first use only."""

    name: str
    inputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    output_bytes: int
    weight_elements: int
    groups: int
    transposed: bool
    has_bias: bool


def record(module: nn.Module, image: Tensor, shapes: Shapes | None = None) -> tuple[Call, ...]:
    """The calls of one forward pass, in order. In-place calls count as new activations. With `shapes`, what came up before
    on the meta device is looked up there: the calls are the same."""
    recorder = _Recorder(image, {storage_of(p) for p in module.parameters()}, run if shapes is None else shapes.run)
    with torch.no_grad(), recorder:
        module(image)
    return tuple(recorder.calls)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, image: Tensor, weights: set[int], run: Callable[..., Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._run = run
        self.calls: list[Call] = []
        self._values = {id(image): 0}
        self._sources: dict[int, list[Tensor]] = {}
        self._alive: list[Any] = [image]  # an id names a tensor only while the tensor lives
        self._weights = weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = self._run(func, args, kwargs)
        tensors = tensors_in((args, tuple(kwargs.values())))
        self._note(func.overloadpacket.__name__, args, tensors, tensors_in((result,)))
        return result

    def _note(self, name: str, args: Sequence[Any], tensors: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        inputs = [self._values[id(t)] for t in tensors if id(t) in self._values]
        if not inputs or not outputs:
            self._derive(tensors, outputs)
            return
        self._alive += outputs
        if name in _ALIASES:
            self._values.update({id(output): inputs[0] for output in outputs})
            return
        convolution = name == "convolution"
        several = name.startswith(("split", "unbind", "chunk"))
        self.calls.append(
            Call(
                name=name,
                inputs=tuple(inputs),
                shapes=tuple(tuple(t.shape) for t in tensors),
                output_shape=tuple(outputs[0].shape),
                output_bytes=sum(o.numel() for o in (outputs if several else outputs[:1])) * BYTES_PER_ELEMENT,
                weight_elements=0 if "batch_norm" in name else sum(self._uncounted(t) for t in tensors),
                groups=int(args[8]) if convolution else 1,
                transposed=bool(args[6]) if convolution else False,
                has_bias=args[2] is not None if convolution else False,
            )
        )
        self._values.update({id(output): len(self.calls) for output in outputs})

    def _derive(self, tensors: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """What is computed from weights alone stands for them: an operation that reads it reads them (biases of attention
        that are looked up by distance)."""
        weights = [t for t in tensors if id(t) in self._sources or storage_of(t) in self._weights]
        sources = [source for t in weights for source in self._sources.get(id(t), [t])]
        if sources:
            self._alive += outputs
            self._sources.update({id(output): sources for output in outputs})

    def _uncounted(self, tensor: Tensor) -> int:
        """Elements of a weight at its first use: tied weights are stored once, and a view shares its base's storage."""
        return sum(map(self._once, self._sources.get(id(tensor), [tensor])))

    def _once(self, tensor: Tensor) -> int:
        storage = storage_of(tensor)
        if storage not in self._weights:
            return 0
        self._weights.remove(storage)
        return tensor.numel()
