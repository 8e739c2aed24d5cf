"""ONNX Runtime on the CPU, for the measuring agent (`agent.py` says what such a file has)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TITLE = "ONNX Runtime"
INSTALL = "pip install onnxruntime"
TRACES = True


def describe() -> dict[str, str]:
    """The runtime's fields of `Environment`. Imports it; raises ImportError where it is absent."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    return {"runtime": "onnxruntime", "runtime_version": ort.__version__, "provider": "CPUExecutionProvider"}


def errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a class for each of its status codes, without a base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    classes = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*classes, RuntimeError)


def kind_of(error: Exception, stage: str) -> str:
    """The agent's kind for an error of the stage `load` or `run`."""
    return "inputs" if stage == "run" and "INVALID_ARGUMENT" in str(error) else stage


class OnnxSession:
    """An InferenceSession as an app would have it: fully optimised, one run at a time, `threads` threads, none of which
    spins while it waits. A run is `session.run` from NumPy arrays to NumPy arrays."""

    def __init__(
        self, path: str, threads: int, shapes: Mapping[str, Sequence[int]], trace_folder: str | None = None
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if trace_folder is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(trace_folder) / "trace")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [
            (
                node.name,
                dtype(node.type),
                shapes.get(node.name) or [size if isinstance(size, int) else -1 for size in node.shape],
            )
            for node in self._session.get_inputs()
        ]

    def feed(self, values: dict[str, Any]) -> dict[str, Any]:
        """The arrays by name, as they are."""
        return values

    def run(self, feed: dict[str, Any]) -> object:
        """All outputs."""
        return self._session.run(None, feed)

    def operators(self) -> list[list[tuple[str, str, float]]]:
        """(name, operator, us) of what each traced run executed, in order. Ends the trace."""
        return node_times(json.loads(Path(self._session.end_profiling()).read_text()))


def dtype(type_name: str) -> str:
    """NumPy's name for a type such as `tensor(float16)`; a type that NumPy has not (`string`, sequences) keeps its own."""
    kind = re.sub(r"^tensor\((.*)\)$", r"\1", type_name)
    return {"float": "float32", "double": "float64"}.get(kind, kind)


def node_times(events: Sequence[dict[str, Any]]) -> list[list[tuple[str, str, float]]]:
    """The nodes of each finished run from ONNX Runtime's trace. If, Loop and Scan themselves are left out, since their time
    is that of the nodes inside."""
    runs: list[list[tuple[str, str, float]]] = [[]]
    for event in events:
        name = event["name"]
        if event.get("cat") == "Session" and name == "model_run":
            runs.append([])
        elif event.get("cat") == "Node" and name.endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            if kind not in ("If", "Loop", "Scan"):
                runs[-1].append((name.removesuffix("_kernel_time"), kind, event["dur"]))
    return runs[:-1]


load = OnnxSession
