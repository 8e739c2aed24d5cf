"""What an operation is computed by: a table from Core ML's operation names to functions of a `MilCall`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Value = Any
"""A tensor as numpy array (rank 0 for a scalar), a string, a list of tensors, or a State."""

Implementation = Callable[["MilCall"], Value]


@dataclass(eq=False)
class State:
    """A tensor that operations overwrite and that outlives a run."""

    value: NDArray[Any] | None = None


@dataclass(frozen=True)
class MilCall:
    """One operation with the values of its inputs. `evaluate` computes a nested block from the values of its inputs."""

    operation: Any
    values: Mapping[str, Value]
    evaluate: Callable[[Any, Sequence[Value]], list[Value]]

    def __getitem__(self, name: str) -> Value:
        """The value of an input that must be there."""
        return self.values[name]

    def get(self, name: str, default: Value = None) -> Value:
        """The value of an input that may be absent."""
        value = self.values.get(name)
        return default if value is None else value

    def real(self, name: str) -> NDArray[Any]:
        """An input with half floats widened to single precision, in which their sums keep their digits."""
        return widened(np.asarray(self.values[name]))

    def tensor(self, name: str) -> Tensor:
        """`real` as a tensor of torch."""
        return torch.from_numpy(np.ascontiguousarray(self.real(name)))

    def scalar(self, name: str, default: Any = None) -> Any:
        """A scalar input as a Python number, bool or string."""
        value = self.get(name, default)
        return value.item() if isinstance(value, np.ndarray | np.generic) else value

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """An input of integers as a list."""
        return [int(entry) for entry in np.atleast_1d(self.get(name, default or ()))]


def widened(value: NDArray[Any]) -> NDArray[Any]:
    """Half floats in single precision, any other array as it is."""
    return value.astype(np.float32) if value.dtype == np.float16 else value


def along(vector: NDArray[Any], rank: int, axis: int) -> NDArray[Any]:
    """A vector shaped to broadcast along `axis` of a tensor of `rank` dimensions."""
    shape = [1] * rank
    shape[axis] = vector.size
    return vector.reshape(shape)


_IMPLEMENTATIONS: dict[str, Implementation] = {}


def operation(*names: str) -> Callable[[Implementation], Implementation]:
    """Register a function as what computes the operations of these names."""

    def register(function: Implementation) -> Implementation:
        for name in names:
            if name in _IMPLEMENTATIONS:
                raise ValueError(f"{name} is registered twice")
            _IMPLEMENTATIONS[name] = function
        return function

    return register


def implementation_of(name: str) -> Implementation | None:
    """The function registered for an operation, or None."""
    return _IMPLEMENTATIONS.get(name)
