"""Strides that training takes apart, because oneDNN's code for them writes past its memory.

In channels-last layout the weights' gradient of a 1x1 convolution with a stride and few input channels is computed in a
workspace that is too small (uxlfoundation/oneDNN#6035; in torch 2.13): the process dies at once, later or, with wrong
gradients, not at all. The code for AVX-512 goes wrong below 16 input channels, that for AVX2 below 8. Larger kernels,
padding and groups take other code, which is sound.

Without its stride such a convolution gives the same on every stride-th pixel alone, and that is what training computes. The
modules keep their stride, so that nothing of this reaches an export.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Input channels from which on the workspace is large enough on every processor.
_BLOCK = 16
# As modules call it, and as it stands in the graph of a network that trains under rounding.
_CONVOLUTIONS = (torch.conv2d, torch.ops.aten.conv2d.default, torch.ops.aten.conv2d.padding)


def safe_convolutions(device: torch.device) -> AbstractContextManager[Any]:
    """A context for forward passes on `device`, so that oneDNN computes their backward passes rightly. Outputs and gradients
    are those of the plain convolutions up to rounding. Only on the CPU does it change anything."""
    return _SlicedStrides() if device.type == "cpu" else nullcontext()


class _SlicedStrides(TorchFunctionMode):
    """Hands the convolutions concerned a slice of their input. It sees the calls of all modules, of any origin, and of
    traced graphs, and leaves the modules as they are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return _convolution(*args, **kwargs) if func in _CONVOLUTIONS else func(*args, **kwargs)


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """torch's conv2d. Its arguments may come by name, so these have its names."""
    pointwise = weight.shape[2:] == (1, 1) and groups == 1 and weight.shape[1] < _BLOCK
    if pointwise and (padding == "valid" or _pair(padding) == (0, 0)):
        down, across = _pair(stride)
        input, stride = input[..., ::down, ::across], 1
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
