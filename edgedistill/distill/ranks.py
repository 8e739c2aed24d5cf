"""Several processes that train one network: each takes a part of every batch, and learns what one would of the whole batch.

Each process computes the outputs for its images. These are gathered, and every process takes the loss of the whole batch, so
that any loss gives what it gives in one process, those that compare the images of a batch with each other too. Batch norms
take their statistics over all processes, and the gradients are averaged. So weights are the same on all of them after each
step, and those of one process but for rounding; what dropout draws differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SEED_STRIDE: Final = 1 << 25
"""Between the seeds of two processes in a step: further than a run has steps. On a CPU torch draws by the lower 32 bits of a
seed alone, so the strides of all processes have to lie there."""


@dataclass(frozen=True)
class Rank:
    """Process number `number` of `count` that train one network. `reduce` gives the sum of a tensor over all of them."""

    number: int = 0
    count: int = 1
    reduce: Callable[[Tensor], Tensor] = torch.clone

    @property
    def first(self) -> bool:
        """Whether this process writes the state and tells of progress."""
        return self.number == 0

    @property
    def seed_offset(self) -> int:
        """What is added to a step's seed, so that no two processes drop the same units of their images; 0 for the first."""
        return self.number * _SEED_STRIDE

    def part(self, size: int) -> slice:
        """Of a batch of `size` images, those that this process takes: parts differ by one image at most."""
        start, end = (number * size // self.count for number in (self.number, self.number + 1))
        return slice(start, end)

    def gathered(self, outputs: Mapping[str, Tensor], size: int) -> Mapping[str, Tensor]:
        """Rows [b, width] of this process' images to those of the whole batch [`size`, width]. Their gradient is the sum
        over the processes, as many times that of the batch: `average` divides by it."""
        if self.count == 1:
            return outputs
        part = self.part(size)
        around = (0, 0, part.start, size - part.stop)
        return {name: self._sum(nn.functional.pad(rows, around)) for name, rows in outputs.items()}

    def batch_norms(self) -> AbstractContextManager[Any]:
        """A context for forward passes, in which batch norms normalise by the statistics of the whole batch."""
        return nullcontext() if self.count == 1 else _WholeBatchNorms(self._sum)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        mean = self.reduce(torch.cat([gradient.flatten() for gradient in gradients])) / self.count
        for gradient, values in zip(gradients, torch.split(mean, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view(gradient.shape))

    def _sum(self, tensor: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(tensor, self.reduce)  # type: ignore[no-untyped-call]
        return summed


ALONE: Final = Rank()
"""The one process that trains where there are no several."""


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.reduce = reduce
        return reduce(tensor.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.reduce(gradient.contiguous()), None


class _WholeBatchNorms(TorchFunctionMode):
    """Sees the batch norms of all modules, of any origin, and leaves the modules as they are. torch's SyncBatchNorm would
    have to replace them, and runs on GPUs alone."""

    def __init__(self, add: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.add = add

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.batch_norm:
            return _BatchNorm(*args, **(kwargs or {})).over(self.add)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True, eq=False)
class _BatchNorm:
    """A call of torch's batch_norm: its arguments, by their names and in their places."""

    input: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5

    def over(self, add: Callable[[Tensor], Tensor]) -> Tensor:
        """What it gives with mean and variance over all processes, of which `add` gives the sum of a tensor."""
        if not self.training:
            return nn.functional.batch_norm(**vars(self))
        images = self.input
        var, mean = torch.var_mean(images.float(), [0, *range(2, images.ndim)], correction=0)
        own = torch.full_like(mean, images.numel() / images.shape[1])
        # In float64, or the small difference of two large numbers would be lost where a mean is far from 0.
        own, mean, var = (tensor.double() for tensor in (own, mean, var))
        count, total, squares = add(torch.stack([own, own * mean, own * (var + mean.square())]))
        mean = total / count
        var = squares / count - mean.square()
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        scale = (var + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        shift = (0 if self.bias is None else self.bias) - mean * scale
        shape = [1, -1] + [1] * (images.ndim - 2)
        scale, shift = (tensor.to(torch.float32).view(shape) for tensor in (scale, shift))
        return torch.addcmul(shift, images, scale).to(images.dtype)
