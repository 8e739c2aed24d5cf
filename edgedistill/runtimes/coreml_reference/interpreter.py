"""Walking a program: blocks, operations, the rounding of every result to its declared type."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import InputError, Problem, UnsupportedError
from edgedistill.export.coreml import quiet
from edgedistill.runtimes.coreml_package import Package, read_package
from edgedistill.runtimes.coreml_reference.registry import Call, State, Value, implementation_of

_MODULES = (
    "convolution",
    "elementwise",
    "images",
    "indexing",
    "layout",
    "lists",
    "normalisation",
    "products",
    "quantised",
    "random_values",
    "recurrent",
    "reductions",
)


def run(package_path: Path | str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Outputs by name of a saved .mlpackage for `inputs` by name.

    An image input takes its pixels as [1, channels, height, width] in 0..255, in the channel order the package states; its
    scale and bias are operations of the program. Raises InputError for a package that is missing or inputs that do not
    fit it, EdgedistillError for one that is damaged, UnsupportedError naming every operation that nothing here computes.
    """
    return Interpreter(read_package(Path(package_path))).run(inputs)


class Interpreter:
    """A package that was read once, to be run many times."""

    def __init__(self, package: Package) -> None:
        for name in _MODULES:
            importlib.import_module(f"edgedistill.runtimes.coreml_reference.{name}")
        self.package = package
        self.states = {name: State() for name, var in package.function.inputs.items() if _is_state(var)}
        unknown = sorted({op.op_type for op in _all_operations(package.function) if not _computable(op)})
        if unknown:
            raise UnsupportedError(
                f"{package.path.name} has operations that the reference interpreter does not compute",
                problems=[Problem(name, "no implementation", "run the package on a Mac instead") for name in unknown],
            )

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name. See `run` of this module."""
        function = self.package.function
        wanted = {name: var for name, var in function.inputs.items() if name not in self.states}
        given = {name: _as_declared(name, inputs, var) for name, var in wanted.items()}
        if extra := sorted(set(inputs) - set(given)):
            raise InputError(f"{self.package.path.name} has no input {', '.join(extra)}; it has {', '.join(given)}")
        evaluation = _Evaluation()
        for name, var in function.inputs.items():
            evaluation.values[var] = self._state(name, var) if name in self.states else given[name]
        with quiet(), np.errstate(all="ignore"):
            results = evaluation.block(function)
        return {var.name: np.asarray(value) for var, value in zip(function.outputs, results, strict=True)}

    def _state(self, name: str, var: Any) -> State:
        """A state that begins as zeros and lasts as long as the interpreter."""
        state = self.states[name]
        if state.value is None:
            state.value = np.zeros([int(size) for size in var.sym_type.wrapped_type().get_shape()])
        return state


def _is_state(var: Any) -> bool:
    types = importlib.import_module("coremltools.converters.mil.mil.types")
    return bool(types.is_state(var.sym_type))


def _as_declared(name: str, inputs: Mapping[str, NDArray[Any]], var: Any) -> NDArray[Any]:
    if name not in inputs:
        raise InputError(f"the input {name} is missing")
    value = np.asarray(inputs[name])
    wanted = [None if _is_symbol(size) else int(size) for size in var.shape]
    if len(wanted) != value.ndim or any(w is not None and w != g for w, g in zip(wanted, value.shape, strict=True)):
        shown = [size or "any" for size in wanted]
        raise InputError(f"the input {name} is {list(value.shape)}, the package takes {shown}")
    declared: NDArray[Any] = _rounded(value, var)
    return declared


def _is_symbol(size: Any) -> bool:
    return not isinstance(size, int | np.integer)


def _all_operations(block: Any) -> Iterator[Any]:
    for op in block.operations:
        yield op
        for inner in op.blocks:
            yield from _all_operations(inner)


def _computable(op: Any) -> bool:
    base = importlib.import_module("coremltools.converters.mil.mil").Operation
    own = type(op).value_inference is not base.value_inference
    return op.op_type == "const" or implementation_of(op.op_type) is not None or own or _materialises(op)


def _materialises(op: Any) -> bool:
    return hasattr(op, "materialized_val_inference")


@dataclass(eq=False)
class _Evaluation:
    """The values of one run, by variable."""

    values: dict[Any, Value] = field(default_factory=dict)

    def block(self, block: Any) -> list[Value]:
        for op in block.operations:
            if op.op_type == "const":
                continue
            for var, value in zip(op.outputs, self.operation(op), strict=True):
                self.values[var] = _rounded(value, var)
        return [self.value(var) for var in block.outputs]

    def nested(self, block: Any, inputs: Sequence[Value]) -> list[Value]:
        for var, value in zip(block.inputs, inputs, strict=True):
            self.values[var] = value
        return self.block(block)

    def value(self, var: Any) -> Value:
        if var in self.values:
            return self.values[var]
        return var.val

    def operation(self, op: Any) -> Sequence[Value]:
        values = {
            name: [self.value(v) for v in var] if isinstance(var, list | tuple) else self.value(var)
            for name, var in op.inputs.items()
        }
        implementation = implementation_of(op.op_type)
        if implementation is not None:
            result = implementation(Call(op, values, self.nested))
        else:
            with _with_values(op, self.values):
                result = op.materialized_val_inference() if _materialises(op) else op.value_inference()
            result = getattr(result, "ls", result)
        many = isinstance(result, list | tuple) and len(op.outputs) > 1
        return result if many else [result]


@contextmanager
def _with_values(op: Any, values: Mapping[Any, Value]) -> Iterator[None]:
    """The operation's input variables hold this run's values, half floats widened, while coremltools evaluates it."""
    flat = op.get_flattened_inputs()
    before = [(var, var._sym_val) for var in flat if var is not None and var in values]
    try:
        for var, _ in before:
            value = values[var]
            if isinstance(value, np.ndarray):
                wide = value.astype(np.float32) if value.dtype == np.float16 else value
                value = wide[()] if wide.ndim == 0 else wide
            var._sym_val = SimpleNamespace(val=value)
        yield
    finally:
        for var, held in before:
            var._sym_val = held


def _rounded(value: Value, var: Any) -> Value:
    """`value` in the type that the program declares for `var`."""
    if isinstance(value, str | list) or value is None:
        return value
    types = importlib.import_module("coremltools.converters.mil.mil.types")
    if types.is_list(var.sym_type) or types.is_str(var.sym_type):
        return value
    wanted = np.dtype(types.nptype_from_builtin(var.dtype))
    array = np.asarray(value)
    if array.dtype == wanted:
        return array
    if np.issubdtype(wanted, np.integer) and np.issubdtype(array.dtype, np.floating):
        array = np.nan_to_num(array)
    return array.astype(wanted)
