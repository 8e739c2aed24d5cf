"""What aten calls give on the meta device, where a tensor is its shape, strides and type: once computed, then looked up.

torch computes much of it in Python, which takes most of the time of a trace; a space of hundreds of students asks for
the same few thousand shapes again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


class _Effect(Enum):
    """What a call gives: new tensors, its first argument with other values, or anything else (views, plain numbers)."""

    NEW = "new"
    WRITTEN = "written"
    OTHER = "other"


def run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the aten overload `func` gives. A batch norm on the meta device gives shapes alone: torch decomposes it in
    Python there, which takes longer than all else."""
    if "batch_norm" in func.overloadpacket.__name__ and args[0].is_meta:
        return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
    return func(*args, **kwargs)


class Shapes:
    """A memory of what calls gave. Remembered are those whose tensors are all of the meta device, and which make new tensors
    or write into their first argument: nothing but shapes, strides, types and plain numbers decides what they give. All
    others run, views among them."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """As `run` gives it."""
        effect = _effect(func)
        if effect is _Effect.OTHER:
            return run(func, args, kwargs)
        try:
            key = (func, _key(args), _key(kwargs.items()) if kwargs else ())
        except _NotMetaError:
            return run(func, args, kwargs)
        known = self._known.get(key)
        if known is None:
            result = run(func, args, kwargs)
            if effect is _Effect.WRITTEN:
                if result is args[0]:
                    self._known[key] = effect
            elif not _shares_storage((args, tuple(kwargs.values())), (result,)):
                made = tuple((t.shape, t.stride(), t.dtype) for t in tensors_in((result,)))
                self._known[key] = isinstance(result, tuple), made
            return result
        if known is _Effect.WRITTEN:
            return args[0]
        several, made = known
        tensors = tuple(torch.empty_strided(shape, stride, dtype=dtype, device="meta") for shape, stride, dtype in made)
        return tensors if several else tensors[0]


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among the arguments or results of an aten call, in order, those inside lists and tuples too."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
    return found


def storage_of(tensor: Tensor) -> int:
    """The storage's address as an object: on the meta device data pointers are all zero."""
    return int(tensor.untyped_storage()._cdata)


def _shares_storage(one: Iterable[Any], other: Iterable[Any]) -> bool:
    """Some views are not declared as such (`_unsafe_view`)."""
    return not {storage_of(t) for t in tensors_in(one)}.isdisjoint(storage_of(t) for t in tensors_in(other))


class _NotMetaError(Exception):
    pass


def _key(values: Iterable[Any]) -> tuple[Any, ...]:
    """What the result depends on. A number goes with its type: 1, 1.0 and True are equal, and promote differently."""
    key: list[Any] = []
    for value in values:
        kind = type(value)
        if kind is Tensor or kind is nn.Parameter:
            if not value.is_meta:
                raise _NotMetaError
            key += (value.shape, value.stride(), value.dtype)
        elif kind is list or kind is tuple:
            key.append(_key(value))
        elif isinstance(value, Tensor):
            raise _NotMetaError
        else:
            key += (kind, value)
    return tuple(key)


@cache
def _effect(func: Any) -> _Effect:
    schema = func._schema
    returns, arguments = schema.returns, schema.arguments
    if not returns or any(str(value.type) != "Tensor" for value in returns):
        return _Effect.OTHER
    if not any("Tensor" in str(argument.type) for argument in arguments):
        return _Effect.OTHER  # what makes tensors of nothing says itself on which device
    written = [argument.alias_info is not None for argument in arguments]
    if not any(written) and all(value.alias_info is None for value in returns):
        return _Effect.NEW
    in_place = written[0] and not any(written[1:]) and len(returns) == 1 and arguments[0].alias_info.is_write
    reshapes = torch.Tag.inplace_view in func.tags or "resize" in schema.name or "set_" in schema.name
    return _Effect.WRITTEN if in_place and not reshapes else _Effect.OTHER
