"""A LiteRT file read back without LiteRT: every offset, index and size is checked before the native interpreter, which
checks next to none of them, may see the file.

What is checked is what the interpreter allocates and follows: tables, vectors, indices of tensors, buffers and operator
codes, sizes of constants and of tensors. An operator's own options are checked to lie inside the file.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.base.paths import require_file
from edgedistill.base.units import format_bytes
from edgedistill.documents.artifacts import Layer, TensorSignature
from edgedistill.documents.specs import QuantScheme
from edgedistill.formats.carried import carried_scheme
from edgedistill.formats.flatbuffer import Buffer, Damaged, Table
from edgedistill.formats.litert.metadata import attached_bytes
from edgedistill.formats.litert.packages import FILE_LIMIT_BYTES, import_litert
from edgedistill.formats.precisions import precision_of, settled_scheme

TENSOR_LIMIT_BYTES = 2**30
_IDENTIFIER = b"TFL3"
_VERSION = 3
_CUSTOM = 32
_BITS = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    "INT2": 2,
    "COMPLEX128": 128,
}
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_INTEGERS = ("INT8", "UINT8", "INT16")


@dataclass(frozen=True)
class Tensor:
    """`kind` is the type's name in the schema; an open dimension is -1; `constant_bytes` is None for what is computed."""

    name: str
    kind: str
    shape: tuple[int, ...]
    constant_bytes: int | None

    @property
    def signature(self) -> TensorSignature:
        return TensorSignature(name=self.name, dtype=self.kind.lower(), shape=self.shape)


@dataclass(frozen=True)
class Operator:
    """`name` is the schema's, or the custom operator's own. An absent optional input is -1."""

    name: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A subgraph, its operators in order of execution."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class LiteRTFile:
    """What a file holds. `entries` are the metadata that are text; `metadata_bytes` counts all of it,
    and the archive of files behind the model."""

    graphs: tuple[Graph, ...]
    entries: dict[str, str]
    file_bytes: int
    metadata_bytes: int
    constant_bytes: int

    @property
    def main(self) -> Graph:
        return self.graphs[0]

    @property
    def operators(self) -> Counter[str]:
        """How often each operator occurs, those of all subgraphs."""
        return Counter(operator.name for graph in self.graphs for operator in graph.operators)

    @property
    def custom_operators(self) -> Counter[str]:
        return Counter(o.name for graph in self.graphs for o in graph.operators if o.custom)

    def signature(self) -> tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]:
        """The main graph's inputs and outputs."""
        inputs, outputs = (
            tuple(self.main.tensors[index].signature for index in indices)
            for indices in (self.main.inputs, self.main.outputs)
        )
        return inputs, outputs

    def layers(self) -> Iterator[Layer]:
        """The operators with weights, those of all subgraphs, each called after its weight. Integer weights that meet
        floating-point activations directly are for kernels that round these by a range found at every run."""
        for graph in self.graphs:
            stored = {o.outputs[0]: o.inputs[0] for o in graph.operators if o.name == "DEQUANTIZE" and o.inputs}
            for operator in graph.operators:
                if operator.name in _WEIGHTED and len(operator.inputs) > 1 and operator.inputs[1] >= 0:
                    weight = graph.tensors[stored.get(operator.inputs[1], operator.inputs[1])]
                    output = graph.tensors[operator.outputs[0]]
                    dynamic = weight.kind in (*_INTEGERS, "INT4") and operator.inputs[1] not in stored
                    floating = "int8 dynamic" if dynamic else output.kind.lower()
                    yield Layer(
                        name=weight.name.removesuffix(".weight"),
                        weights=weight.kind.lower(),
                        arithmetic=output.kind.lower() if output.kind in _INTEGERS else floating,
                        parameters=math.prod(weight.shape),
                    )

    def scheme(self, path: Path) -> QuantScheme:
        """The scheme in its metadata, else one that says its precision. Raises InputError where that in the metadata is
        broken, or says another precision than the layers have."""
        layers = tuple(self.layers())
        return settled_scheme(carried_scheme(self.entries, path), precision_of(layers), layers, path)


def read_file(path: Path) -> LiteRTFile:
    """Read `path`. Raises InputError, with the cause, for what is not a whole LiteRT file or holds what no interpreter
    should be given."""
    require_file(path, "name a .tflite file")
    size = path.stat().st_size
    if size > FILE_LIMIT_BYTES:
        raise InputError(
            f"{path} has {format_bytes(size)}; a LiteRT file holds at most 2 GiB", fix="use a smaller model"
        )
    try:
        return _FileReader(path.read_bytes()).read()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except Damaged as error:
        raise InputError(
            f"{path} is not a whole LiteRT file: {error}", fix="copy it again or export it again"
        ) from error


def _checked(index: int, count: int, what: str, lowest: int = 0) -> int:
    if not lowest <= index < count:
        raise Damaged(f"it refers to {what} {index} of {count}")
    return index


class _FileReader:
    """One pass over the tables of a Model."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.model = Buffer(data, _IDENTIFIER).root()

    def read(self) -> LiteRTFile:
        if (version := self.model.integer(0)) != _VERSION:
            raise Damaged(f"it has version {version} of the format, and {_VERSION} is the only one")
        self.codes = [self._code(code) for code in self.model.tables(1)]
        self.buffers = self.model.tables(4)
        self.sizes = [self._size(buffer) for buffer in self.buffers]
        graphs = tuple(self._graph(table) for table in self.model.tables(2))
        if not graphs or not graphs[0].operators:
            raise Damaged("it holds no operators")
        metadata = [(table.text(0), table.integer(1)) for table in self.model.tables(6)]
        self._check_signatures(graphs)
        return LiteRTFile(
            graphs=graphs,
            entries=dict(self._texts(metadata)),
            file_bytes=len(self.data),
            metadata_bytes=sum(self._buffer_size(buffer) for _, buffer in metadata) + attached_bytes(self.data),
            constant_bytes=sum(t.constant_bytes or 0 for graph in graphs for t in graph.tensors),
        )

    def _code(self, table: Table) -> tuple[str, bool]:
        # The byte came first; codes above 127 are in the newer field, and the larger one counts.
        number = max(table.integer(0, "<b"), table.integer(3, "<i"))
        if number == _CUSTOM:
            return table.text(1) or "CUSTOM", True
        if (name := _names("BuiltinOperator").get(number)) is None:
            raise Damaged(f"it uses operator {number}, which this LiteRT does not know")
        return name, False

    def _size(self, table: Table) -> int:
        """Bytes of a buffer, which lie inside its table or behind the flatbuffer."""
        offset, size = table.integer(1, "<Q"), table.integer(2, "<Q")
        if offset <= 1:
            return len(table.octets(0))
        if offset + size > len(self.data):
            raise Damaged(f"a buffer of {size} bytes at byte {offset} lies outside")
        return size

    def _buffer_size(self, index: int) -> int:
        return self.sizes[_checked(index, len(self.sizes), "buffer")]

    def _content(self, index: int) -> bytes:
        size, table = self._buffer_size(index), self.buffers[index]
        offset = table.integer(1, "<Q")
        return self.data[offset : offset + size] if offset > 1 else table.octets(0)

    def _texts(self, metadata: list[tuple[str, int]]) -> Iterator[tuple[str, str]]:
        for name, index in metadata:
            try:
                yield name, self._content(index).decode().rstrip("\0")
            except UnicodeDecodeError:
                continue

    def _graph(self, table: Table) -> Graph:
        tensors = tuple(self._tensor(tensor) for tensor in table.tables(0))
        graph = Graph(
            tensors=tensors,
            inputs=self._indices(table, 1, tensors),
            outputs=self._indices(table, 2, tensors),
            operators=tuple(self._operator(operator, tensors) for operator in table.tables(3)),
        )
        made = {index for operator in graph.operators for index in operator.outputs}
        if any(tensors[index].constant_bytes is not None for index in made):
            raise Damaged("an operator writes to a constant")
        return graph

    def _indices(
        self, table: Table, field: int, tensors: tuple[Tensor, ...], optional: bool = False
    ) -> tuple[int, ...]:
        lowest = -1 if optional else 0
        return tuple(_checked(int(index), len(tensors), "tensor", lowest) for index in table.numbers(field, "<i4"))

    def _operator(self, table: Table, tensors: tuple[Tensor, ...]) -> Operator:
        name, custom = self.codes[_checked(table.integer(0), len(self.codes), "operator code")]
        for field in (3, 11):
            table.union(field)
        for field in (5, 7):
            table.octets(field)
        self._indices(table, 8, tensors, optional=True)
        offset, size = table.integer(9, "<Q"), table.integer(10, "<Q")
        if offset > 1 and offset + size > len(self.data):
            raise Damaged(f"an operator's options of {size} bytes at byte {offset} lie outside")
        outputs = self._indices(table, 2, tensors)
        if not outputs and name in ("DEQUANTIZE", *_WEIGHTED):
            raise Damaged(f"a {name} gives nothing")
        return Operator(name, custom, self._indices(table, 1, tensors, optional=True), outputs)

    def _tensor(self, table: Table) -> Tensor:
        name, kind_number = table.text(3), table.integer(1, "<b")
        if (kind := _names("TensorType").get(kind_number)) is None:
            raise Damaged(f"the tensor {name!r} has type {kind_number}, which this LiteRT does not know")
        shape = tuple(int(size) for size in table.numbers(0, "<i4"))
        open_shape = tuple(int(size) for size in table.numbers(7, "<i4")) or shape
        if any(size < 0 for size in shape) or len(open_shape) != len(shape):
            raise Damaged(f"the tensor {name!r} has shape {list(shape)}, open {list(open_shape)}")
        if table.integer(10):
            raise Damaged(f"the tensor {name!r} is kept in another file")
        constant = self._buffer_size(table.integer(2)) or None
        bits = _BITS.get(kind)
        needed = 0 if bits is None else (math.prod(shape) * bits + 7) // 8
        if needed > TENSOR_LIMIT_BYTES:
            raise Damaged(
                f"the tensor {name!r} of shape {list(shape)} needs {format_bytes(needed)}, "
                f"more than the {format_bytes(TENSOR_LIMIT_BYTES)} allowed"
            )
        sparse = table.table(6) is not None
        if constant is not None and bits is not None and not sparse and constant != needed:
            raise Damaged(f"the constant {name!r} of shape {list(shape)} has {constant} bytes, it needs {needed}")
        if (quantization := table.table(4)) is not None:
            scales = len(quantization.numbers(2, "<u4"))
            zeros, axis = len(quantization.numbers(3, "<i8")), quantization.integer(6, "<i")
            along_axis = 0 <= axis < len(shape) and shape[axis] == scales
            if zeros not in (0, 1, scales) or (scales > 1 and not along_axis):
                raise Damaged(f"the tensor {name!r} has {scales} scales and {zeros} zero points on axis {axis}")
        return Tensor(name, kind, open_shape, constant)

    def _check_signatures(self, graphs: tuple[Graph, ...]) -> None:
        for table in self.model.tables(7):
            number = table.integer(4)
            if number >= len(graphs):
                raise Damaged(f"a signature refers to graph {number} of {len(graphs)}")
            for field in (0, 1):
                for entry in table.tables(field):
                    entry.text(0)
                    if entry.integer(1) >= len(graphs[number].tensors):
                        raise Damaged(f"a signature refers to tensor {entry.integer(1)} that is not there")


@cache
def _names(enumeration: str) -> dict[int, str]:
    """Names by number of one of the schema's enumerations."""
    import_litert("ai_edge_litert.interpreter")
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    return {number: name for name, number in vars(getattr(schema, enumeration)).items() if isinstance(number, int)}
