"""Running a package: its inputs, its states, and the operations that nothing computes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.errors import InputError, Problem, UnsupportedError
from edgedistill.base.quiet import quiet
from edgedistill.formats.coreml.limits import check_type
from edgedistill.formats.coreml.package import Package, read_package
from edgedistill.formats.coreml.reference.evaluation import Evaluation, Shared, is_compressed_weight, rounded
from edgedistill.formats.coreml.reference.registry import State, Value, implementation_of
from edgedistill.formats.coreml_sdk import mil

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


def run(package_path: Path | str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Value]:
    """Outputs by name of a saved .mlpackage for `inputs` by name: arrays, and of a classifier its answer as text and a
    dictionary of the probability of each class.

    An image input takes its pixels as [1, channels, height, width] in 0..255, in the channel order the package states; its
    scale and bias are operations of the program. Raises InputError for a package that is missing or damaged and for
    inputs that do not fit it, UnsupportedError naming every operation that nothing here computes, EdgedistillError for one
    whose arguments do not fit together.
    """
    return Interpreter(read_package(Path(package_path))).run(inputs)


class Interpreter:
    """A package that was read once, to be run many times."""

    def __init__(self, package: Package) -> None:
        for name in _MODULES:
            importlib.import_module(f"edgedistill.formats.coreml.reference.{name}")
        self.package = package
        self._shared = Shared()
        is_state = mil("types").is_state
        self.states = {name: State() for name, var in package.function.inputs.items() if is_state(var.sym_type)}
        if unknown := sorted({op.op_type for op in _all_operations(package.function) if not _computable(op)}):
            raise UnsupportedError(
                f"{package.path.name} has operations that the reference interpreter does not compute",
                problems=[Problem(name, "no implementation", "run the package on a Mac instead") for name in unknown],
            )

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Value]:
        """Outputs by name. See `run` of this module."""
        function = self.package.function
        given = {n: _as_declared(n, inputs, var) for n, var in function.inputs.items() if n not in self.states}
        if extra := sorted(set(inputs) - set(given)):
            raise InputError(f"{self.package.path.name} has no input {', '.join(extra)}; it has {', '.join(given)}")
        evaluation = Evaluation(self._shared)
        for name, var in function.inputs.items():
            evaluation.hold(var, self._state(name, var) if name in self.states else given[name])
        with quiet(), np.errstate(all="ignore"):
            results = evaluation.block(function)
        return {
            var.name: value if isinstance(value, str | dict) else np.asarray(value)
            for var, value in zip(function.outputs, results, strict=True)
        }

    def _state(self, name: str, var: Any) -> State:
        """A state that begins as zeros and lasts as long as the interpreter."""
        state = self.states[name]
        if state.value is None:
            check_type(var.sym_type, f"the state {name}")
            state.value = np.zeros([int(size) for size in var.sym_type.wrapped_type().get_shape()])
        return state


def _as_declared(name: str, inputs: Mapping[str, NDArray[Any]], var: Any) -> Value:
    if name not in inputs:
        raise InputError(f"the input {name} is missing")
    value = np.asarray(inputs[name])
    # What is no number is a symbol, for any size.
    wanted = [int(size) if isinstance(size, int | np.integer) else None for size in var.shape]
    if len(wanted) != value.ndim or any(w is not None and w != g for w, g in zip(wanted, value.shape, strict=True)):
        shown = [size or "any" for size in wanted]
        raise InputError(f"the input {name} is {list(value.shape)}, the package takes {shown}")
    return rounded(value, var)


def _all_operations(block: Any) -> Iterator[Any]:
    for op in block.operations:
        yield op
        for inner in op.blocks:
            yield from _all_operations(inner)


def _computable(op: Any) -> bool:
    own = type(op).value_inference is not mil("operation").Operation.value_inference
    return op.op_type == "const" or implementation_of(op.op_type) is not None or own or is_compressed_weight(op)
