"""Networks without weights: on the meta device a tensor has a shape and no values, so writing values is left out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils._device import DeviceContext

# torch computes even the shapes of these in Python on the meta device: a network's initialisation took most of its making.
_WRITING = frozenset(
    {Tensor.__setitem__, Tensor.fill_, Tensor.zero_, Tensor.copy_, Tensor.uniform_, Tensor.normal_, Tensor.erfinv_}
    | {Tensor.mul_, Tensor.add_, Tensor.clamp_}
    | {nn.init.uniform_, nn.init.normal_, nn.init.constant_, nn.init.kaiming_uniform_}
)


class Weightless(DeviceContext):
    """A context in which tensors are made on the meta device, as by `torch.device("meta")`, and initialising them does
    nothing. Shapes come out the same."""

    def __init__(self) -> None:
        super().__init__("meta")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _WRITING:
            written = args[0] if args else kwargs["tensor"]
            if written.is_meta:
                return written
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
