"""Computing the blocks of a program: the values that are alive, their limits, the rounding of each to its declared type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgedistill.base.errors import EdgedistillError, first_line
from edgedistill.formats.coreml.limits import check_total, check_type, is_symbolic
from edgedistill.formats.coreml.reference.registry import MilCall, State, Value, implementation_of, widened
from edgedistill.formats.coreml_sdk import mil


def rounded(value: Value, var: Any) -> Value:
    """`value` in the type that the program declares for `var`; lists, states, strings and what a classifier says of its
    classes as they are."""
    if isinstance(value, str | list | dict | State) or value is None:
        return value
    types = mil("types")
    if types.is_list(var.sym_type) or types.is_str(var.sym_type):
        return value
    wanted = np.dtype(types.nptype_from_builtin(var.dtype))
    array = np.asarray(value)
    if array.dtype == wanted:
        return array
    if np.issubdtype(wanted, np.integer) and np.issubdtype(array.dtype, np.floating):
        array = np.nan_to_num(array)
    return array.astype(wanted)


def is_compressed_weight(op: Any) -> bool:
    """coremltools expands such an operation on demand."""
    return str(op.op_type).startswith("constexpr_")


@dataclass(eq=False)
class Shared:
    """What the runs of one package have in common: expanded weights by variable, and when values are needed last."""

    weights: dict[Any, Value] = field(default_factory=dict)
    last_uses: dict[Any, dict[Any, list[Any]]] = field(default_factory=dict)

    def released_by(self, block: Any) -> dict[Any, list[Any]]:
        """By operation of a block, the variables made in the block that nothing after it reads."""
        if block not in self.last_uses:
            last = {var: op for op in block.operations for var in _read_by(op)}
            released: dict[Any, list[Any]] = {}
            for op in block.operations:
                for var in op.outputs:
                    if var not in block.outputs:
                        released.setdefault(last.get(var, op), []).append(var)
            self.last_uses[block] = released
        return self.last_uses[block]


def _read_by(op: Any) -> Iterator[Any]:
    yield from (var for var in op.get_flattened_inputs() if var is not None)
    for block in op.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from _read_by(inner)


@dataclass(eq=False)
class Evaluation:
    """The values of one run, by variable, and the bytes that they take."""

    shared: Shared
    values: dict[Any, Value] = field(default_factory=dict)
    held_bytes: int = 0

    def block(self, block: Any) -> list[Value]:
        """The values of a block's outputs, once those of its inputs stand in `values`."""
        released = self.shared.released_by(block)
        for op in block.operations:
            if op.op_type != "const":
                for var, value in zip(op.outputs, self._outputs(op), strict=True):
                    self.hold(var, rounded(value, var))
            for var in released.get(op, ()):
                self._release(var)
        return [self._value(var) for var in block.outputs]

    def nested(self, block: Any, inputs: Sequence[Value]) -> list[Value]:
        """`block` for the values of its inputs."""
        for var, value in zip(block.inputs, inputs, strict=True):
            self.hold(var, value)
        return self.block(block)

    def hold(self, var: Any, value: Value) -> None:
        """Set the value of a variable."""
        self._release(var)
        self.values[var] = value
        self.held_bytes += getattr(value, "nbytes", 0)

    def _release(self, var: Any) -> None:
        self.held_bytes -= getattr(self.values.pop(var, None), "nbytes", 0)

    def _value(self, var: Any) -> Value:
        return self.values.get(var, var.val)

    def _outputs(self, op: Any) -> Sequence[Value]:
        try:
            return self._operation(op)
        # What numpy, torch and coremltools raise for arguments that do not fit together.
        except (ValueError, LookupError, ArithmeticError, RuntimeError) as error:
            raise EdgedistillError(
                f"the {op.op_type} {op.name} cannot be computed: {first_line(error)}",
                fix="check the program: its arguments do not fit together",
            ) from error

    def _operation(self, op: Any) -> Sequence[Value]:
        if is_compressed_weight(op):
            return self._weight(op)
        if not op.blocks:
            self._check_size(op)
        if (implementation := implementation_of(op.op_type)) is not None:
            values = {
                name: [self._value(v) for v in var] if isinstance(var, list | tuple) else self._value(var)
                for name, var in op.inputs.items()
            }
            result = implementation(MilCall(op, values, self.nested))
        else:
            with _with_values(op, self.values):
                result = op.value_inference()
            result = getattr(result, "ls", result)
        many = isinstance(result, list | tuple) and len(op.outputs) > 1
        return result if many else [result]

    def _weight(self, op: Any) -> Sequence[Value]:
        if op.outputs[0] not in self.shared.weights:
            what = f"the weight {op.name}"
            check_total(self.held_bytes + sum(check_type(var.sym_type, what) for var in op.outputs), what)
            with _with_values(op, self.values):
                expanded = op.materialized_val_inference()
            parts = expanded if len(op.outputs) > 1 else [expanded]
            for var, value in zip(op.outputs, parts, strict=True):
                self.shared.weights[var] = rounded(value, var)
        return [self.shared.weights[var] for var in op.outputs]

    def _check_size(self, op: Any) -> None:
        """Refuse what the operation would give for the values it is about to be given, where that is too large."""
        what = f"the output of the {op.op_type} {op.name}"
        declared = [var.sym_type for var in op.outputs]
        if any(map(is_symbolic, declared)):
            # Some operations build others to infer their type, which has to happen inside a function.
            with mil("block").Function({}), _with_values(op, self.values):
                inferred = op.type_inference()
            declared = list(inferred) if isinstance(inferred, tuple) else [inferred]
        check_total(self.held_bytes + sum(check_type(sym_type, what) for sym_type in declared), what)


@contextmanager
def _with_values(op: Any, values: Mapping[Any, Value]) -> Iterator[None]:
    """Within this context the operation's input variables have this run's values, half floats widened, and their shapes, for
    coremltools to infer from."""
    types = mil("types")
    flat = [var for var in op.get_flattened_inputs() if var is not None and var in values]
    before = [(var, var._sym_type, var._sym_val) for var in flat]
    try:
        for var in flat:
            value = values[var]
            if isinstance(value, np.ndarray):
                if types.is_tensor(var._sym_type):
                    var._sym_type = types.tensor(var.dtype, value.shape)
                wide = widened(value)
                value = wide[()] if wide.ndim == 0 else wide
            var._sym_val = SimpleNamespace(val=value)
        yield
    finally:
        for var, sym_type, sym_val in before:
            var._sym_type, var._sym_val = sym_type, sym_val
