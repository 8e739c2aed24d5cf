"""What a Core ML package may ask for. Packages come from anywhere, and a few bytes of one can declare tensors beyond any
memory; whatever exceeds the limits is refused before it is allocated."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgedistill.base.errors import EdgedistillError, InputError
from edgedistill.base.units import format_bytes
from edgedistill.formats.coreml_sdk import mil

TENSOR_LIMIT_BYTES = 4 * 2**30
"""What one tensor may take, weights after expansion included."""
TOTAL_LIMIT_BYTES = 16 * 2**30
"""What the tensors alive at one time may take."""

_COMPUTED_BYTES = 4
_BLOB_SENTINEL = 0xDEADBEEF
_BLOB_HEADER = struct.Struct("<IIQQ")
"""What stands before each blob of a weight file: the sentinel, the type, the blob's size and its offset."""
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


def check_weights(spec: Any, folder: Path, package: Path) -> None:
    """Every weight that the program refers to lies inside its file. `spec` is the Model protobuf, `folder` where the weight
    files of `package` are. Raises EdgedistillError for a file that is missing, cut short, or has no weight where one should
    begin."""
    for value in _file_values(spec.mlProgram):
        path, offset = folder / value.fileName.rpartition("/")[2], value.offset
        if problem := _weight_problem(path, offset):
            raise EdgedistillError(
                f"{package} is damaged: its {path.name} {problem}", fix="copy the package again or build it again"
            )


def _weight_problem(path: Path, offset: int) -> str:
    if not path.is_file():
        return "is missing"
    length = path.stat().st_size
    if offset + _BLOB_HEADER.size > length:
        return f"ends at {length}, before the weight at {offset}"
    with path.open("rb") as file:
        file.seek(offset)
        sentinel, _, size, start = _BLOB_HEADER.unpack(file.read(_BLOB_HEADER.size))
    if sentinel != _BLOB_SENTINEL:
        return f"has no weight at {offset}"
    if start + size > length:
        return f"ends at {length}, inside the weight at {offset}, which reaches to {start + size}"
    return ""


def stored_operations(program: Any) -> Iterator[Any]:
    """The operations of all functions and nested blocks of a program's protobuf."""
    blocks = [block for function in program.functions.values() for block in function.block_specializations.values()]
    while blocks:
        for operation in blocks.pop().operations:
            blocks.extend(operation.blocks)
            yield operation


def _file_values(program: Any) -> Iterator[Any]:
    """Its references into weight files."""
    for operation in stored_operations(program):
        bound = [binding.value for item in operation.inputs.values() for binding in item.arguments]
        for value in [*operation.attributes.values(), *bound]:
            if value.WhichOneof("value") == "blobFileValue":
                yield value.blobFileValue
