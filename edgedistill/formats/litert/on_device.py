"""LiteRT on the CPU with XNNPACK, for the measuring agent (`agent.py` says what such a file has).

The interpreter's profiler cannot be reached from Python, nor does the wheel bring the benchmark tool that could print it:
operators are not timed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TITLE = "LiteRT"
INSTALL = "pip install ai-edge-litert"
TRACES = False


def describe() -> dict[str, str]:
    """The runtime's fields of `Environment`. Imports it; raises ImportError where it is absent."""
    import ai_edge_litert  # type: ignore[import-untyped]
    import ai_edge_litert.interpreter  # type: ignore[import-untyped]

    return {"runtime": "LiteRT", "runtime_version": ai_edge_litert.__version__, "provider": "XNNPACK"}


def errors() -> tuple[type[Exception], ...]:
    """What the interpreter raises: ValueError for files and values, RuntimeError for what fails while it runs."""
    return (ValueError, RuntimeError)


def kind_of(error: Exception, stage: str) -> str:
    """The agent's kind for an error of the stage `load` or `run`."""
    text = str(error)
    return "inputs" if "Cannot set tensor" in text or "ResizeInputTensor" in text else stage


class LiteRTInterpreter:
    """An Interpreter of `threads` threads with its default delegate, XNNPACK, its tensors allocated. Inputs are called as
    the interpreter calls its tensors. A run sets the inputs from NumPy arrays (a copy each), invokes, and gets the outputs
    (a copy each)."""

    def __init__(self, path: str, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=path, num_threads=threads)
        for details in self._interpreter.get_input_details():
            if details["name"] in shapes:
                self._interpreter.resize_tensor_input(details["index"], shapes[details["name"]], strict=True)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()
        self.inputs = [(each["name"], each["dtype"].__name__, each["shape"].tolist()) for each in details]
        self._indices = {each["name"]: each["index"] for each in details}
        self._outputs = [each["index"] for each in self._interpreter.get_output_details()]

    def feed(self, values: dict[str, Any]) -> list[tuple[int, Any]]:
        """The arrays with their tensors' indices."""
        return [(self._indices[name], value) for name, value in values.items()]

    def run(self, feed: list[tuple[int, Any]]) -> object:
        """All outputs."""
        interpreter = self._interpreter
        for index, value in feed:
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in self._outputs]


load = LiteRTInterpreter
