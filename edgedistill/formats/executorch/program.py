"""What an ExecuTorch program (.pte) holds, read without the C++ runtime, and checked before that sees it.

A file is a flatbuffer of schema ET12 (methods, each a list of values and of instructions), mostly with a header that says
where segments follow it: constants, delegates' payloads, data by name. The runtime verifies the flatbuffer's structure. What
it takes on trust is checked here: sizes in the header, segments inside the file, indices into lists, tensors inside their
memory, and how much memory a method asks for.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.base.paths import require_file
from edgedistill.base.units import format_bytes
from edgedistill.documents.artifacts import Layer, TensorSignature
from edgedistill.documents.specs import Precision, QuantScheme
from edgedistill.formats.carried import carried_contract, carried_scheme
from edgedistill.formats.executorch.xnnpack import XnnpackPart, read_xnnpack
from edgedistill.formats.flatbuffer import Buffer, Damaged, Table

MAX_PLANNED_BYTES = 2**30
"""Memory that a method may ask for its values. A vision transformer at 518 pixels plans a tenth of this."""

_IDENTIFIER = b"ET12"
_HEADER_MAGIC = b"eh00"
_HEADER = "<4sIQQ"
_SCALARS = {
    0: ("uint8", 1),
    1: ("int8", 1),
    2: ("int16", 2),
    3: ("int32", 4),
    4: ("int64", 8),
    5: ("float16", 2),
    6: ("float32", 4),
    7: ("float64", 8),
    11: ("bool", 1),
    12: ("qint8", 1),
    13: ("quint8", 1),
    14: ("qint32", 4),
    15: ("bfloat16", 2),
    16: ("quint4x2", 1),
    17: ("quint2x4", 1),
    22: ("bits16", 2),
    23: ("float8_e5m2", 1),
    24: ("float8_e4m3fn", 1),
    25: ("float8_e5m2fnuz", 1),
    26: ("float8_e4m3fnuz", 1),
    27: ("uint16", 2),
    28: ("uint32", 4),
    29: ("uint64", 8),
}
_INT, _TENSOR, _STRING, _INT_LIST, _TENSOR_LIST, _OPTIONAL_TENSOR_LIST = 2, 5, 6, 7, 10, 11
_LAST_VALUE_TYPE = 11
_KERNEL, _DELEGATE, _MOVE, _JUMP, _FREE = 1, 2, 3, 4, 5
_MAX_RANK = 16
_EXTERNAL = 1


@dataclass(frozen=True)
class Value:
    """A value of a method. `tensor` is its type and shape where it is one, `text` what a string says."""

    tensor: TensorSignature | None = None
    text: str | None = None


@dataclass(frozen=True)
class DelegatePart:
    """A part of a method that a delegate computes. `xnnpack` is what is inside where it is XNNPACK's."""

    backend: str
    payload_bytes: int
    xnnpack: XnnpackPart | None


@dataclass(frozen=True)
class Method:
    """One entry point. `calls` counts the kernels that it calls outside delegates, by `namespace::operator.overload`;
    `planned_bytes` is the memory that it asks for."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    calls: Counter[str]
    delegates: tuple[DelegatePart, ...]
    planned_bytes: int

    @property
    def delegated(self) -> Counter[str]:
        """Operations inside of delegates; only XNNPACK's parts tell them."""
        return sum((part.xnnpack.nodes for part in self.delegates if part.xnnpack is not None), Counter())

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers with weights inside of XNNPACK's parts. The file names none: each is called after its operation, with a
        number."""
        found = [layer for part in self.delegates if part.xnnpack is not None for layer in part.xnnpack.layers]
        seen: Counter[str] = Counter()
        for place, layer in enumerate(found):
            found[place] = layer.model_copy(update={"name": f"{layer.name} {seen[layer.name]}"})
            seen[layer.name] += 1
        return tuple(found)


@dataclass(frozen=True)
class PteFile:
    """A program that was read whole. The sizes are bytes of the file: its flatbuffer, tensors outside of delegates, and what
    belongs to delegates, their named data included."""

    methods: tuple[Method, ...]
    flatbuffer_bytes: int
    constant_bytes: int
    delegate_bytes: int

    @property
    def forward(self) -> Method | None:
        return next((method for method in self.methods if method.name == "forward"), None)

    @property
    def entries(self) -> dict[str, str]:
        """Metadata: what the methods say that return one string and compute nothing."""
        return {
            method.name: method.outputs[0].text
            for method in self.methods
            if not method.inputs and len(method.outputs) == 1 and method.outputs[0].text is not None
        }

    def scheme(self, path: Path) -> QuantScheme:
        """From the metadata, else read off what is inside delegates and which kernels are called."""
        return carried_scheme(self.entries, path) or QuantScheme(precision=self._precision())

    def _precision(self) -> Precision:
        method = self.forward
        kinds = {kind for d in method.delegates if d.xnnpack for kind in d.xnnpack.datatypes} if method else set()
        if kinds & {"qcint4", "qbint4"}:
            return Precision.INT4_WEIGHTS
        if "qdint8" in kinds:
            return Precision.INT8_WEIGHTS
        if kinds & {"qint8", "qcint8", "quint8"} or (method and any("quantize" in name for name in method.calls)):
            return Precision.INT8
        return Precision.FP16 if "fp16" in kinds else Precision.FP32

    def signature(self, path: Path) -> tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]:
        """Inputs and outputs of `forward`, with the contract's names where the file carries a contract of one input and one
        output, else numbered."""
        method = self.forward
        if method is None:
            return (), ()
        contract = carried_contract(self.entries, path)
        one = len(method.inputs) == len(method.outputs) == 1
        return (
            _named(method.inputs, contract.input_name if contract and one else "input"),
            _named(method.outputs, contract.output_name if contract and one else "output"),
        )


def read_pte(path: Path) -> PteFile:
    """Raises InputError, with the cause, for a missing or damaged file and for one that asks for too much memory."""
    require_file(path, "name a .pte file")
    try:
        return _ProgramReader(path.read_bytes()).read()
    except Damaged as damage:
        raise InputError(
            f"{path} is not an ExecuTorch program that can be used: {damage}", fix="export it again"
        ) from None


def _named(values: tuple[Value, ...], name: str) -> tuple[TensorSignature, ...]:
    tensors = [value.tensor for value in values if value.tensor]
    names = [name] if len(tensors) == 1 else [f"{name}{index}" for index in range(len(tensors))]
    return tuple(tensor.model_copy(update={"name": n}) for tensor, n in zip(tensors, names, strict=True))


def _index(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise Damaged(f"{what} {index} is named, there are {count}")
    return index


class _ProgramReader:
    """One reading of one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.flatbuffer_bytes, self.segments_start, self.segments_bytes = self._header()
        self.root = Buffer(data[: self.flatbuffer_bytes], _IDENTIFIER).root()
        self.segments = [self._segment(table) for table in self.root.tables(4)]
        self.named = {table.text(0): self._segment_at(table.integer(1))[1] for table in self.root.tables(7)}
        self.inline = [table.octets(0) for table in self.root.tables(3)]
        self.constant_bytes, self.constants = self._constants()

    def read(self) -> PteFile:
        methods = tuple(self._method(plan) for plan in self.root.tables(1))
        if not methods:
            raise Damaged("it has no methods")
        all_bytes = sum(size for _, size in self.segments) + sum(map(len, self.inline))
        return PteFile(
            methods=methods,
            flatbuffer_bytes=self.flatbuffer_bytes,
            constant_bytes=self.constant_bytes,
            delegate_bytes=all_bytes - self.constant_bytes,
        )

    def _header(self) -> tuple[int, int, int]:
        """Size of the flatbuffer, start and size of the segments."""
        data, size = self.data, len(self.data)
        if data[4:8] != _IDENTIFIER:
            raise Damaged(f"bytes 4 to 8 are {data[4:8]!r}, not {_IDENTIFIER!r}")
        if size < 8 + struct.calcsize(_HEADER) or data[8:12] != _HEADER_MAGIC:
            return size, size, 0
        _, length, program, base = struct.unpack_from(_HEADER, data, 8)
        if length < struct.calcsize(_HEADER) or not 8 + length <= program <= size:
            raise Damaged(f"its header tells of a program of {program} bytes, the file has {size}")
        if base == 0:
            return program, size, 0
        (stated,) = struct.unpack_from("<Q", data, 32) if length >= 32 and size >= 40 else (size - base,)
        if not program <= base <= size or base + stated > size:
            raise Damaged(
                f"its header tells of {stated} bytes of data at {base}, the file ends at {size}: it was cut off"
            )
        return program, base, stated

    def _segment(self, table: Table) -> tuple[int, int]:
        offset, size = table.integer(0, "<Q"), table.integer(1, "<Q")
        if offset + size > self.segments_bytes:
            raise Damaged(f"{size} bytes of data at {offset} lie outside of the file")
        return self.segments_start + offset, size

    def _segment_at(self, index: int) -> tuple[int, int]:
        return self.segments[_index(index, len(self.segments), "segment")]

    def _constants(self) -> tuple[int, list[int]]:
        """Bytes of the segment of constants, and those there are for each constant tensor; the first stands for none."""
        table = self.root.table(5)
        offsets = [] if table is None else table.numbers(1, "<u8").tolist()
        if table is None or not offsets:
            return 0, [len(buffer.octets(0)) for buffer in self.root.tables(2)]
        _, size = self._segment_at(table.integer(0))
        if any(offset > size for offset in offsets):
            raise Damaged(f"a constant lies at {max(offsets)} of {size} bytes")
        return size, [size - offset for offset in offsets]

    def _method(self, plan: Table) -> Method:
        name = plan.text(0)
        buffers = plan.numbers(8, "<i8").tolist()
        if any(size < 0 for size in buffers) or sum(buffers) > MAX_PLANNED_BYTES:
            raise Damaged(
                f"{name} asks for {format_bytes(sum(buffers))} of memory, more than the "
                f"{format_bytes(MAX_PLANNED_BYTES)} allowed here: a smaller resolution needs less"
            )
        tables = plan.tables(2)
        kinds = [table.union(0)[0] for table in tables]
        values = [self._value(table, kinds, buffers) for table in tables]
        operators = [
            operator.text(0) + (f".{overload}" if (overload := operator.text(1)) else "") for operator in plan.tables(6)
        ]
        delegates = tuple(self._delegate(table) for table in plan.tables(7))
        calls: Counter[str] = Counter()
        for chain in plan.tables(5):
            instructions = chain.tables(2)
            for instruction in instructions:
                kind, call = instruction.union(0)
                if operator := _checked_call(kind, call, len(values), operators, len(delegates), len(instructions)):
                    calls[operator] += 1
        ends = [
            tuple(values[_index(i, len(values), "value")] for i in plan.numbers(field, "<i4").tolist())
            for field in (3, 4)
        ]
        return Method(name, ends[0], ends[1], calls, delegates, sum(buffers))

    def _value(self, table: Table, kinds: list[int], buffers: list[int]) -> Value:
        kind, content = table.union(0)
        if not 0 < kind <= _LAST_VALUE_TYPE or content is None:
            raise Damaged(f"a value is of the unknown type {kind}")
        if kind == _TENSOR:
            return Value(tensor=self._tensor(content, buffers))
        if kind == _STRING:
            return Value(text=content.text(0))
        if kind in (_INT_LIST, _TENSOR_LIST, _OPTIONAL_TENSOR_LIST):
            wanted = _INT if kind == _INT_LIST else _TENSOR
            for index in content.numbers(0, "<i8" if kind == _INT_LIST else "<i4").tolist():
                if index == -1 and kind == _OPTIONAL_TENSOR_LIST:
                    continue
                # The runtime ends the process where a list names a value of another kind.
                if kinds[_index(index, len(kinds), "value")] != wanted:
                    raise Damaged(f"a list of {'numbers' if wanted == _INT else 'tensors'} names another value")
        return Value()

    def _tensor(self, table: Table, buffers: list[int]) -> TensorSignature:
        scalar = table.integer(0, "<b")
        if scalar not in _SCALARS:
            raise Damaged(f"a tensor is of the unknown type {scalar}")
        kind, item_bytes = _SCALARS[scalar]
        sizes = table.numbers(2, "<i4").tolist()
        order = list(table.octets(3))
        if len(sizes) > _MAX_RANK or any(size < 0 for size in sizes):
            raise Damaged(f"a tensor has the shape {sizes[:_MAX_RANK]}")
        if order and sorted(order) != list(range(len(sizes))):
            raise Damaged(f"a tensor of {len(sizes)} dimensions has the memory order {order[:_MAX_RANK]}")
        size = math.prod(sizes) * item_bytes
        place, constant = table.table(6), table.integer(5)
        extra = table.table(9)
        if extra is not None and extra.integer(2, "<b") == _EXTERNAL:
            raise Damaged(f"the tensor {extra.text(1)} is kept in a second file; export with the data inside")
        if place is not None:
            buffer = _index(place.integer(0), len(buffers), "memory")
            start = place.integer(1) + (place.integer(2) << 32)
            if start + size > buffers[buffer]:
                raise Damaged(f"a tensor of {size} bytes at {start} lies outside of memory of {buffers[buffer]} bytes")
        elif constant:
            room = self.constants[_index(constant, len(self.constants), "constant")]
            if size > room:
                raise Damaged(f"a constant of {size} bytes has {room}")
        return TensorSignature(name="", dtype=kind, shape=tuple(sizes))

    def _delegate(self, table: Table) -> DelegatePart:
        backend, reference = table.text(0), table.table(1)
        for specification in table.tables(2):
            specification.text(0)
            specification.octets(1)
        if reference is None:
            raise Damaged(f"a part for {backend} has no content")
        if reference.integer(0, "<b"):
            start, size = self._segment_at(reference.integer(1))
            payload = self.data[start : start + size]
        else:
            payload = self.inline[_index(reference.integer(1), len(self.inline), "payload")]
        part = read_xnnpack(payload, self.named) if backend == "XnnpackBackend" else None
        return DelegatePart(backend, len(payload), part)


def _checked_call(
    kind: int, call: Table | None, values: int, operators: list[str], delegates: int, instructions: int
) -> str | None:
    """The operator that an instruction calls, None for other instructions."""
    if call is None or not _KERNEL <= kind <= _FREE:
        raise Damaged(f"an instruction is of the unknown type {kind}")
    if kind in (_KERNEL, _DELEGATE):
        for argument in call.numbers(1, "<i4").tolist():
            _index(argument, values, "value")
        if kind == _DELEGATE:
            _index(call.integer(0, "<i"), delegates, "delegate")
            return None
        return operators[_index(call.integer(0, "<i"), len(operators), "operator")]
    _index(call.integer(0, "<i"), values, "value")
    if kind == _MOVE:
        _index(call.integer(1, "<i"), values, "value")
    if kind == _JUMP:
        _index(call.integer(1, "<i"), instructions + 1, "instruction")
    return None
