"""What a Core ML package may ask for. Packages come from anywhere, and a few bytes of one can declare tensors beyond any
memory; whatever exceeds the limits is refused before it is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgedistill.base.errors import InputError
from edgedistill.base.units import format_bytes
from edgedistill.formats.coreml_sdk import mil

TENSOR_LIMIT_BYTES = 4 * 2**30
"""What one tensor may take, weights after expansion included."""
TOTAL_LIMIT_BYTES = 16 * 2**30
"""What the tensors alive at one time may take."""

_COMPUTED_BYTES = 4
_FIX = "a package of such tensors is damaged or hostile; if it is neither, run it on a Mac"


def check_size(shape: Sequence[int], what: str, item_bytes: int = _COMPUTED_BYTES) -> int:
    """Bytes of a tensor of `shape`, at least the four an element in which it is computed. Raises InputError naming `what`
    beyond TENSOR_LIMIT_BYTES."""
    size = math.prod(int(length) for length in shape) * max(item_bytes, _COMPUTED_BYTES)
    if size > TENSOR_LIMIT_BYTES:
        raise InputError(
            f"{what} is {[int(length) for length in shape]}, which takes {format_bytes(size)}; "
            f"a tensor may take {format_bytes(TENSOR_LIMIT_BYTES)}",
            fix=_FIX,
        )
    return size


def check_total(size: int, what: str) -> None:
    """Raises InputError naming `what` if `size` bytes of tensors at one time exceed TOTAL_LIMIT_BYTES."""
    if size > TOTAL_LIMIT_BYTES:
        raise InputError(
            f"with {what} the tensors take {format_bytes(size)} at one time; {format_bytes(TOTAL_LIMIT_BYTES)} is allowed",
            fix=_FIX,
        )


def check_type(sym_type: Any, what: str) -> int:
    """`check_size` of a coremltools type; 0 for one of unknown size and for what is no tensor."""
    types = mil("types")
    if types.is_state(sym_type):
        sym_type = sym_type.wrapped_type()
    if not types.is_tensor(sym_type) or is_symbolic(sym_type):
        return 0
    return check_size(sym_type.get_shape(), what)


def is_symbolic(sym_type: Any) -> bool:
    """Whether a coremltools type is that of a tensor of unknown size."""
    return bool(mil("types").is_tensor(sym_type) and mil("types.symbolic").any_symbolic(sym_type.get_shape()))


@contextmanager
def bounded_loading() -> Iterator[None]:
    """coremltools evaluates what is constant in a program while it builds its graph. Within this context the outputs of all
    operations are checked before that; raises InputError."""
    operation = mil("operation").Operation
    plain = operation._auto_val
    held = 0

    def checked(op: Any, output_types: Sequence[Any]) -> Any:
        nonlocal held
        what = f"the output of the {op.op_type} {op.name}"
        size = sum(check_type(output_type, what) for output_type in output_types)
        values = plain(op, output_types)
        if any(value is not None for value in values):
            held += size
            check_total(held, what)
        return values

    operation._auto_val = checked
    try:
        yield
    finally:
        operation._auto_val = plain
