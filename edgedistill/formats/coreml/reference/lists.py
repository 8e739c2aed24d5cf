"""Control flow, the lists that loops write into, states, and the answer of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.formats.coreml.limits import check_size
from edgedistill.formats.coreml.reference.registry import MilCall, Value, operation


@operation("cond")
def cond(call: MilCall) -> list[Value] | Value:
    """Only the branch that is taken is computed."""
    results = call.evaluate(call.operation.blocks[0 if call.scalar("pred") else 1], [])
    return results if len(results) > 1 else results[0]


@operation("while_loop")
def while_loop(call: MilCall) -> list[Value] | Value:
    condition, body = call.operation.blocks
    variables = list(call["loop_vars"])
    while bool(np.asarray(call.evaluate(condition, variables)[0])):
        variables = call.evaluate(body, variables)
    return variables if len(variables) > 1 else variables[0]


@operation("select")
def select(call: MilCall) -> NDArray[Any]:
    return np.asarray(np.where(call["cond"], call["a"], call["b"]))


@operation("make_list")
def make_list(call: MilCall) -> list[Value]:
    return [None] * _checked_length(call.scalar("init_length", 1))


def _checked_length(length: int) -> int:
    check_size([length], "the list", item_bytes=8)
    return length


def _with(elements: list[Value], index: int, value: Value) -> list[Value]:
    """A longer list where the index lies behind its end."""
    longer = elements + [None] * (_checked_length(index + 1) - len(elements))
    longer[index] = value
    return longer


@operation("list_write")
def list_write(call: MilCall) -> list[Value]:
    return _with(call["ls"], call.scalar("index"), call["value"])


@operation("list_scatter")
def list_scatter(call: MilCall) -> list[Value]:
    elements = call["ls"]
    for index, value in zip(call.integers("indices"), call["value"], strict=True):
        elements = _with(elements, index, value)
    return list(elements)


def _element(call: MilCall, index: int, shape: Sequence[Any]) -> NDArray[Any]:
    """An element of the list; one that was never written is zeros, of the shape that the program states."""
    element = call["ls"][index]
    return np.zeros([int(size) for size in shape]) if element is None else np.asarray(element)


@operation("list_read")
def list_read(call: MilCall) -> NDArray[Any]:
    return _element(call, call.scalar("index"), call.operation.outputs[0].shape)


@operation("list_gather")
def list_gather(call: MilCall) -> NDArray[Any]:
    elements = [_element(call, index, call.operation.outputs[0].shape[1:]) for index in call.integers("indices")]
    check_size([sum(element.size for element in elements)], "what a list_gather stacks")
    return np.stack(elements)


@operation("list_length")
def list_length(call: MilCall) -> NDArray[Any]:
    return np.asarray(len(call["ls"]), np.int32)


@operation("classify")
def classify(call: MilCall) -> list[Value]:
    """The most probable class, the first of several, and the probability of each by its name."""
    shares = call.real("probabilities").reshape(-1)
    classes = [getattr(one, "val", one) for one in call["classes"]]
    return [classes[int(shares.argmax())], dict(zip(classes, map(float, shares), strict=True))]


@operation("read_state")
def read_state(call: MilCall) -> NDArray[Any]:
    return np.asarray(call["input"].value)


@operation("coreml_update_state")
def update_state(call: MilCall) -> NDArray[Any]:
    call["state"].value = np.asarray(call["value"])
    return np.asarray(call["value"])
