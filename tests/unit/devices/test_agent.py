"""The agent's parts that need no process of their own."""

from __future__ import annotations

import ast
import gc
import sys
import time
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedistill.devices import agent, agent_executorch, agent_onnxruntime
from edgedistill.devices.base import AGENT_FILES

NEEDS: dict[str, set[str]] = {
    "agent": {"numpy"},
    "agent_machine": set(),
    "agent_onnxruntime": {"onnxruntime"},
    "agent_litert": {"ai_edge_litert"},
    "agent_executorch": {"executorch", "torch"},
}


@pytest.mark.parametrize("file", AGENT_FILES, ids=lambda file: file.stem)
def test_stands_alone(file: Path) -> None:
    tree = ast.parse(file.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported}
    assert roots - set(sys.stdlib_module_names) == NEEDS[file.stem]


def test_a_device_is_sent_every_file_of_the_agent() -> None:
    assert sorted(AGENT_FILES) == sorted(Path(agent.__file__).parent.glob("agent*.py"))


def test_sampling_ends_at_max_samples() -> None:
    assert len(agent.take_samples(lambda feed: None, [{}], 25, 10.0, 60)) == 25


def test_sampling_goes_on_until_the_acceptance_rule_has_its_samples() -> None:
    samples = agent.take_samples(lambda feed: time.sleep(0.001), [{}], 1000, 0.02, 60)
    assert len(samples) == 60
    assert min(samples) >= 1_000_000


def test_sampling_never_exceeds_four_times_its_seconds() -> None:
    began = time.perf_counter()
    samples = agent.take_samples(lambda feed: time.sleep(0.02), [{}], 1000, 0.05, 60)
    assert 1 <= len(samples) < 60
    assert time.perf_counter() - began >= 0.2


def test_sampling_cycles_through_the_feeds_with_the_collector_off() -> None:
    seen: list[tuple[int, bool]] = []
    agent.take_samples(lambda feed: seen.append((feed["x"], gc.isenabled())), [{"x": 1}, {"x": 2}], 5, 10.0, 5)
    assert [value for value, _ in seen] == [1, 2, 1, 2, 1]
    assert not any(enabled for _, enabled in seen)
    assert gc.isenabled()


def test_warm_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "WARMUP_TOLERANCE", -1.0)
    monkeypatch.setattr(agent, "WARMUP_LIMIT_S", 0.1)
    began = time.perf_counter()
    assert agent.warm_up(lambda feed: time.sleep(0.002), [{}]) >= 3
    assert time.perf_counter() - began < 5


def test_warm_up_ends_when_two_windows_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "WARMUP_WINDOW_S", 0.0)
    clock = SimpleNamespace(now_ns=0)
    costs_ns = iter([9_000_000] * 10 + [5_000_000] * 10 + [5_050_000] * 10 + [5_000_000] * 100)
    monkeypatch.setattr(agent.time, "perf_counter_ns", lambda: clock.now_ns)
    monkeypatch.setattr(agent.time, "perf_counter", lambda: clock.now_ns / 1e9)

    def run(feed: Any) -> None:
        clock.now_ns += next(costs_ns)

    assert agent.warm_up(run, [{}]) == 30


def medians_of_trace(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return agent.operator_medians(agent_onnxruntime.node_times(events))


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
    assert agent_executorch.call_times(events) == [
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
    assert agent_executorch.kind_of(RuntimeError(text), "load") == kind


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "uint8", "int8", "int32", "int64", "uint16", "bool"])
def test_random_values(kind: str) -> None:
    values = agent.random_values(kind, [2, 3], np.random.default_rng(0))
    assert values.dtype == np.dtype(kind)
    assert values.shape == (2, 3)
    assert isinstance(agent.random_values(kind, [], np.random.default_rng(0)), np.ndarray)


def test_strings_cannot_be_made_up() -> None:
    with pytest.raises(agent.AgentError, match="an input of type string"):
        agent.random_values(agent_onnxruntime.dtype("tensor(string)"), [1], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("onnx", "numpy"),
    [("tensor(float)", "float32"), ("tensor(double)", "float64"), ("tensor(int8)", "int8"), ("seq(x)", "seq(x)")],
)
def test_types_of_onnx(onnx: str, numpy: str) -> None:
    assert agent_onnxruntime.dtype(onnx) == numpy


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


class Processor:
    """Takes `line_ns` for each line of `agent.reference_us`, and nothing for what is outside of it; `agent` reads its clock.
    Every `hiccup`th line takes a thousand times as long, as where another process had its turn."""

    def __init__(self, line_ns: int, hiccup: int | None = None) -> None:
        self.line_ns, self.hiccup = line_ns, hiccup
        self.lines, self.now_ns = 0, 0

    def reference_us(self, monkeypatch: pytest.MonkeyPatch) -> float:
        before = sys.gettrace()
        with monkeypatch.context() as patched:
            patched.setattr(agent.time, "perf_counter_ns", lambda: self.now_ns)
            sys.settrace(self._call)
            try:
                return agent.reference_us()
            finally:
                sys.settrace(before)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code is agent.reference_us.__code__ else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            self.now_ns += self.line_ns * (1000 if self.hiccup and self.lines % self.hiccup == 0 else 1)
        return self._line


def test_the_reference_is_slower_on_a_slower_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Processor(line_ns=10).reference_us(monkeypatch)
    slow = Processor(line_ns=27).reference_us(monkeypatch)
    least = agent.REFERENCE_ROUNDS + agent.REFERENCE_PRODUCTS
    assert slow == pytest.approx(2.7 * fast)
    assert fast > least * 10 / 1e3, "all of the arithmetic counts, in us"


def test_a_longer_piece_of_arithmetic_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "REFERENCE_ROUNDS", 2000)
    long = Processor(line_ns=10).reference_us(monkeypatch)
    monkeypatch.setattr(agent, "REFERENCE_ROUNDS", 200)
    assert long > 3 * Processor(line_ns=10).reference_us(monkeypatch) > 0


def test_a_few_interruptions_do_not_move_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = Processor(line_ns=10, hiccup=10_007)
    assert processor.reference_us(monkeypatch) == Processor(line_ns=10).reference_us(monkeypatch)
    assert processor.lines > 10 * 10_007, "it was interrupted"


def test_a_session_waits_for_the_speed_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([11.0, 11.5, 12.1, 10.3])
    monkeypatch.setattr(agent, "reference_us", lambda: next(speeds))
    monkeypatch.setattr(agent, "REFERENCE_POLL_S", 0.001)
    assert 0 < agent.await_speed(8.6, 5.0) < 1
    assert next(speeds, None) is None, "it looked until the speed was within a fifth"


def test_a_faster_processor_is_waited_out_too_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "reference_us", lambda: 5.8)
    monkeypatch.setattr(agent, "REFERENCE_POLL_S", 0.01)
    assert 0.05 <= agent.await_speed(11.2, 0.05) < 0.5
    assert agent.await_speed(5.5, 5.0) == 0.0
    assert agent.await_speed(None, 5.0) == 0.0
