"""What a LiteRT flatbuffer of our own making holds, changed between the converter and the file.

Only for what the converter has just made: a foreign file goes through `read_file` of file.py, which trusts nothing.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

LAYER_MARK = "layer_"
"""What stands before a layer's number in the names that the converter makes of modules."""

_NUMBER = re.compile(rf"_{LAYER_MARK}(\d+);")
_ALIGNMENT = 16
_DEQUANTIZES_HALF = 3  # the version of DEQUANTIZE that takes float16
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
# From activations to their variance, and from there to the normalised activations.
_ROOTS = ("RSQRT", "SQRT")
_MEASURES = ("MEAN", "SUM", "SUB", "SQUARED_DIFFERENCE", "RESHAPE")
_SCALES = ("ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", "RESHAPE")
# The operands that may be constants worth storing in fewer bits; a bias is small and keeps its precision.
_WEIGHT_OPERANDS = {"TRANSPOSE_CONV": (1,), "BATCH_MATMUL": (0, 1)}


def _flatbuffer_utils() -> Any:
    return importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")


def _schema() -> Any:
    return importlib.import_module("ai_edge_litert.schema_py_generated")


@dataclass(frozen=True, eq=False)
class Content:
    """A model as the objects of LiteRT's own schema (`ModelT`), which may be changed. One subgraph."""

    model: Any

    @classmethod
    def parse(cls, data: bytes) -> Content:
        """Read what the converter or the quantiser returned."""
        return cls(_flatbuffer_utils().read_model_from_bytearray(data))

    @property
    def graph(self) -> Any:
        """The main subgraph."""
        return self.model.subgraphs[0]

    def kind(self, operator: Any) -> str:
        """The operator's name in the schema, e.g. `CONV_2D`."""
        return str(_flatbuffer_utils().opcode_to_name(self.model, operator.opcodeIndex))

    def constant(self, tensor: Any) -> Any:
        """The bytes of a constant, None for a tensor that is computed."""
        return self.model.buffers[tensor.buffer].data

    def carry(self, entries: Mapping[str, str | bytes]) -> None:
        """Put `entries` into the metadata table, in the order of their names, in place of older ones so called."""
        names = {name.encode() for name in entries}
        self.model.metadata = [entry for entry in self.model.metadata or [] if entry.name not in names]
        self._drop_unused_buffers()
        for name, content in sorted(entries.items()):
            number = self._add_buffer(
                np.frombuffer(content.encode() if isinstance(content, str) else content, np.uint8)
            )
            self.model.metadata.append(_schema().MetadataT(name=name.encode(), buffer=number))

    def _add_buffer(self, data: Any) -> int:
        """The number of a new buffer of these bytes."""
        self.model.buffers.append(_schema().BufferT(data=data))
        return len(self.model.buffers) - 1

    def name_ends(self, input_name: str, output_name: str) -> None:
        """Call the input and the output as the contract does: in the graph, as the signature does already."""
        for index, name in ((self.graph.inputs[0], input_name), (self.graph.outputs[0], output_name)):
            for tensor in self.graph.tensors:
                if tensor.name == name.encode():
                    tensor.name += b":0"
            self.graph.tensors[index].name = name.encode()

    def name_tensors(self, layers: Sequence[str]) -> None:
        """Call the tensors of layers after them: `<layer>` what it gives, `<layer>.weight` and `<layer>.bias` its constants.
        Others are called by their operator and number. All names differ."""
        names: dict[int, str] = {}
        for position, operator in enumerate(self.graph.operators):
            kind = self.kind(operator)
            layer = self._layer(operator, layers) if kind in _WEIGHTED else None
            names |= dict.fromkeys(operator.outputs, layer or f"{kind.lower()}_{position}")
            for suffix, index in zip((".weight", ".bias") if layer else (), operator.inputs[1:]):
                if index >= 0 and self.constant(self.graph.tensors[index]) is not None:
                    names.setdefault(index, f"{layer}{suffix}")
        taken: Counter[str] = Counter()
        for index, tensor in enumerate(self.graph.tensors):
            name = names.get(index, "constant")
            taken[name] += 1
            tensor.name = (name if taken[name] == 1 else f"{name}:{taken[name]}").encode()

    def _layer(self, operator: Any, layers: Sequence[str]) -> str | None:
        """The layer that an operator computes, by the numbers in the converter's names: those of its weight, whose constant
        may have got its name from an equal one, and those of its output, which may name what was fused into it as well."""
        weight, output = (
            [int(found) for found in _NUMBER.findall(self.graph.tensors[index].name.decode())]
            for index in (operator.inputs[1], operator.outputs[0])
        )
        both = [number for number in output if number in weight] or output or weight
        return layers[both[0]] if both else None

    def layers(self) -> tuple[str, ...]:
        """Names of the layers that weighted operators compute, in the order of the graph. A layer may take several."""
        names = (
            self.graph.tensors[operator.outputs[0]].name.decode()
            for operator in self.graph.operators
            if self.kind(operator) in _WEIGHTED
        )
        return tuple(dict.fromkeys(name.partition(":")[0] for name in names))

    def before_layers(self) -> tuple[str, ...]:
        """What the operators in front of the first weighted one give: casts and normalisation of the image."""
        ahead = takewhile(lambda operator: self.kind(operator) not in _WEIGHTED, self.graph.operators)
        return tuple(self.graph.tensors[index].name.decode() for operator in ahead for index in operator.outputs)

    def normalisations(self) -> tuple[str, ...]:
        """What the operators of normalisations over activations give: those around a square root or a reciprocal one, from
        the mean that is taken off, or from the squares, to the scale and shift behind."""
        makers = {index: operator for operator in self.graph.operators for index in operator.outputs}
        users: dict[int, list[Any]] = {}
        for operator in self.graph.operators:
            for index in operator.inputs:
                users.setdefault(index, []).append(operator)
        found: dict[int, Any] = {}
        ahead = [operator for operator in self.graph.operators if self.kind(operator) in _ROOTS]
        while ahead:
            operator = ahead.pop()
            if id(operator) in found:
                continue
            found[id(operator)] = operator
            ahead += [makers[i] for i in operator.inputs if i in makers and self._measures(makers[i])]
            ahead += [user for i in operator.outputs for user in users.get(i, ()) if self.kind(user) in _SCALES]
        return tuple(
            self.graph.tensors[index].name.decode()
            for operator in self.graph.operators
            if id(operator) in found
            for index in operator.outputs
        )

    def _measures(self, operator: Any) -> bool:
        """Whether an operator may be a step from the activations to their variance or length: a mean, what is taken off by
        it, squares, or arithmetic with a constant (the epsilon, one over the count)."""
        kind = self.kind(operator)
        scalar = any(self.constant(self.graph.tensors[index]) is not None for index in operator.inputs)
        square = kind == "MUL" and len(set(operator.inputs)) == 1
        return kind in _MEASURES or square or (kind in ("ADD", "MUL") and scalar)

    def store_weights_as_half(self) -> list[tuple[str, float]]:
        """Store the weights as float16, each behind a DEQUANTIZE, as LiteRT's own post-training quantisation lays them out.
        Returns the names and largest values of those that do not fit, and then nothing has changed."""
        values = {
            i: np.frombuffer(self.constant(self.graph.tensors[i]).tobytes(), np.float32) for i in self._float_weights()
        }
        limit = float(np.finfo(np.float16).max)
        largest = {i: float(np.abs(value).max(initial=0.0)) for i, value in values.items()}
        if too_large := [(self.graph.tensors[i].name.decode(), x) for i, x in largest.items() if x > limit]:
            return too_large
        code = self._half_dequantizer()
        operators: list[Any] = []
        widened: dict[int, int] = {}
        for user in self.graph.operators:
            for index in [i for i in user.inputs if i in values and i not in widened]:
                widened[index] = len(self.graph.tensors)
                operators.append(self._halve(index, values[index], code))
            user.inputs = [widened.get(i, i) for i in user.inputs]
            operators.append(user)
        self.graph.operators = operators
        self._drop_unused_buffers()
        return []

    def _halve(self, index: int, value: Any, code: int) -> Any:
        """Store constant `index` as float16; returns the DEQUANTIZE that gives it back as a new, last tensor."""
        schema, stored = _schema(), self.graph.tensors[index]
        widened = schema.TensorT(name=stored.name + b".float", shape=stored.shape, type=stored.type)
        self.graph.tensors.append(widened)
        stored.type = schema.TensorType.FLOAT16
        stored.buffer = self._add_buffer(value.astype(np.float16).view(np.uint8))
        return schema.OperatorT(opcodeIndex=code, inputs=[index], outputs=[len(self.graph.tensors) - 1])

    def _float_weights(self) -> list[int]:
        """Indices of the float constants that weighted operators multiply with, in the order of the graph."""
        found: dict[int, None] = {}
        for operator in self.graph.operators:
            kind = self.kind(operator)
            for operand in _WEIGHT_OPERANDS.get(kind, (1,)) if kind in _WEIGHTED else ():
                tensor = self.graph.tensors[operator.inputs[operand]]
                if tensor.type == _schema().TensorType.FLOAT32 and self.constant(tensor) is not None:
                    found[operator.inputs[operand]] = None
        return list(found)

    def _half_dequantizer(self) -> int:
        """The index of the operator code of a DEQUANTIZE that takes float16, added where the model has no DEQUANTIZE."""
        schema, codes = _schema(), self.model.operatorCodes
        wanted = schema.BuiltinOperator.DEQUANTIZE
        index = next((i for i, code in enumerate(codes) if code.builtinCode == wanted), len(codes))
        if index == len(codes):
            codes.append(schema.OperatorCodeT(deprecatedBuiltinCode=wanted, builtinCode=wanted))
        codes[index].version = max(codes[index].version, _DEQUANTIZES_HALF)
        return index

    def _drop_unused_buffers(self) -> None:
        """Empty the buffers that no tensor and no metadata refers to, so that their bytes are not written."""
        used = {tensor.buffer for graph in self.model.subgraphs for tensor in graph.tensors}
        used |= {entry.buffer for entry in self.model.metadata or []}
        for index, buffer in enumerate(self.model.buffers):
            if index not in used:
                buffer.data = None

    def serialise(self) -> bytes:
        """The flatbuffer. Its buffers lie at multiples of 16 bytes, as the schema asks and as kernels read them: the
        schema's Python code for writing does not see to it."""
        plain = _schema().BufferT

        def pack(buffer: Any, builder: Any) -> Any:
            if buffer.data is not None:
                builder.Prep(_ALIGNMENT, len(buffer.data))
            return plain.Pack(buffer, builder)

        aligned = type("AlignedBuffer", (plain,), {"Pack": pack})
        for buffer in self.model.buffers:
            buffer.__class__ = aligned
        return bytes(_flatbuffer_utils().convert_object_to_bytearray(self.model))
