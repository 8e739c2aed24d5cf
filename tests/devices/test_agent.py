"""The agent's parts that need no process of their own."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill.devices.agent import agent, agent_server
from edgedistill.devices.base import AGENT_FILES
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for, measured_by_agent
from edgedistill.formats.executorch import on_device as on_executorch
from edgedistill.formats.onnx import on_device as on_onnxruntime

NEEDS: dict[str, set[str]] = {"agent": {"numpy"}, "agent_machine": set(), "agent_heat": set(), "agent_sampling": set()}
LOADERS = {
    Format.ONNX: {"onnxruntime"},
    Format.LITERT: {"ai_edge_litert"},
    Format.COREML: {"coremltools", "google", "numpy", "PIL"},
    Format.EXECUTORCH: {"executorch", "torch"},
}


@pytest.mark.parametrize("file", AGENT_FILES, ids=lambda file: file.stem)
def test_stands_alone(file: Path) -> None:
    assert foreign_imports(file) == NEEDS[file.stem]


@pytest.mark.parametrize("format", measured_by_agent())
def test_what_loads_a_format_stands_alone(format: Format) -> None:
    loader = format_for(format).on_device
    assert loader is not None and foreign_imports(loader) == LOADERS[format]


def foreign_imports(file: Path) -> set[str]:
    """The packages beside the standard library that a file imports."""
    tree = ast.parse(file.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported}
    return roots - set(sys.stdlib_module_names)


def test_a_device_is_sent_every_file_of_the_agent() -> None:
    """The server's own source goes before them, on its input."""
    server = Path(agent_server.__file__)
    assert sorted((*AGENT_FILES, server)) == sorted(Path(agent.__file__).parent.glob("agent*.py"))


def medians_of_trace(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return agent.operator_medians(on_onnxruntime.node_times(events))


def node_event(name: str, kind: str, duration_us: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration_us, "args": {"op_name": kind}}


RUN_ENDS = {"cat": "Session", "name": "model_run", "dur": 1}


def test_operator_medians() -> None:
    events: list[dict[str, Any]] = [{"cat": "Session", "name": "model_loading_uri", "dur": 5}]
    for conv, gemm in [(900, 900), (10, 3), (12, 3), (14, 5)]:
        events += [
            {"cat": "Node", "name": "conv_fence_before", "dur": 7},
            node_event("conv", "Conv", conv),
            node_event("gemm", "Gemm", gemm),
            RUN_ENDS,
        ]
    assert medians_of_trace(events) == [
        {"name": "conv", "op_type": "Conv", "median_us": 12},
        {"name": "gemm", "op_type": "Gemm", "median_us": 3},
    ]


def test_operators_inside_a_loop_count_with_their_sum_and_the_loop_does_not() -> None:
    run = [node_event("body", "Add", 2), node_event("body", "Add", 3), node_event("loop", "Loop", 9), RUN_ENDS]
    assert medians_of_trace(run * 4) == [{"name": "body", "op_type": "Add", "median_us": 5}]


def call_event(instruction: int, start: int, end: int, **fields: str) -> dict[str, Any]:
    return {"profile_event": {"instruction_id": instruction, "start_time": start, "end_time": end, **fields}}


def test_calls_of_an_executorch_run() -> None:
    events = [
        call_event(0, 100, 2100, name="native_call_mean.out"),
        call_event(0, 50, 2200, name="OPERATOR_CALL"),
        call_event(1, 3000, 8000, delegate_debug_id_str="Convolution (NHWC, F32) IGEMM #1"),
        call_event(1, 2500, 9000, name="DELEGATE_CALL"),
        call_event(2, 9500, 9900, name="DELEGATE_CALL"),
        {"allocation_event": {"allocator_id": 0, "allocation_size": 64}},
        call_event(0, 0, 10_000, name="Method::execute"),
    ]
    assert on_executorch.call_times(events) == [
        ("0 mean.out", "mean.out", 2.0),
        ("1 Convolution (NHWC, F32) IGEMM #1", "Convolution", 5.0),
        ("2 delegate", "delegate", 0.4),
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Failed to load program, error: 0x:23", "load"),
        ("Failed to load program, error: 0x:21", "memory"),
        ("method->execute() failed with error 0x31", "memory"),
        ("method->set_inputs() for method 'forward' failed with error 0x12", "inputs"),
    ],
)
def test_what_an_error_of_executorch_is_about(text: str, kind: str) -> None:
    assert on_executorch.kind_of(RuntimeError(text), "load") == kind


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "uint8", "int8", "int32", "int64", "uint16", "bool"])
def test_random_values(kind: str) -> None:
    values = agent.random_values(kind, [2, 3], np.random.default_rng(0))
    assert values.dtype == np.dtype(kind)
    assert values.shape == (2, 3)
    assert isinstance(agent.random_values(kind, [], np.random.default_rng(0)), np.ndarray)


def test_strings_cannot_be_made_up() -> None:
    with pytest.raises(agent.AgentError, match="an input of type string"):
        agent.random_values(on_onnxruntime.dtype("tensor(string)"), [1], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("onnx", "numpy"),
    [("tensor(float)", "float32"), ("tensor(double)", "float64"), ("tensor(int8)", "int8"), ("seq(x)", "seq(x)")],
)
def test_types_of_onnx(onnx: str, numpy: str) -> None:
    assert on_onnxruntime.dtype(onnx) == numpy


class FakeModel:
    """Inputs that no file has; what it is fed is what it was given."""

    def __init__(self, *inputs: tuple[str, str, list[int]]) -> None:
        self.inputs = inputs

    def feed(self, values: dict[str, Any]) -> Any:
        return values

    def run(self, feed: Any) -> object:
        raise AssertionError

    def operators(self) -> list[list[tuple[str, str, float]]]:
        raise AssertionError


NO_INPUTS: dict[str, Any] = {"input_name": "", "input_shapes": {}}


def test_open_dimensions() -> None:
    model = FakeModel(("tokens", "int64", [-1, -1]), ("scale", "float32", []))
    feeds = agent.make_feeds(model, {"input_name": "", "input_shapes": {"tokens": [1, 7]}}, None)
    assert [feed["tokens"].shape for feed in feeds] == [(1, 7)]
    assert feeds[0]["scale"].shape == ()
    assert agent.make_feeds(model, NO_INPUTS, None)[0]["tokens"].shape == (1, 1)


def test_values_go_one_by_one_to_the_first_input_where_none_is_named() -> None:
    model = FakeModel(("input0", "uint8", [1, 2]), ("input1", "float32", [1, 3]))
    values = np.arange(6, dtype=np.uint8).reshape(3, 2)
    feeds = agent.make_feeds(model, NO_INPUTS, values)
    assert [feed["input0"].tolist() for feed in feeds] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert all(feed["input1"] is feeds[0]["input1"] for feed in feeds)
    named = agent.make_feeds(model, {"input_name": "input1", "input_shapes": {}}, np.zeros((1, 3), np.float32))
    assert named[0]["input1"].tolist() == [[0, 0, 0]]


def test_unknown_inputs_are_named() -> None:
    model = FakeModel(("image", "uint8", [1]))
    with pytest.raises(agent.AgentError, match="no input other, picture; it has image"):
        agent.make_feeds(model, {"input_name": "picture", "input_shapes": {"other": [1]}}, np.zeros(3, np.uint8))
