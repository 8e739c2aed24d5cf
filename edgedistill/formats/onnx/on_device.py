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

        self.details: dict[str, dict[str, Any]] = {}
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        self._options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._options.log_severity_level = 3
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if trace_folder is not None:
            self._options.enable_profiling = True
            self._options.profile_file_prefix = str(Path(trace_folder) / "trace")
        self._path = path
        self._session = ort.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])
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

    def operators(self, feed: dict[str, Any]) -> list[list[tuple[str, str, float]]]:
        """(name, operator, us) of what each traced run executed, in order. Ends the trace."""
        import onnxruntime as ort

        timed = events_of(self._session)
        # The trace of a session leaves out the weights that its kernels have packed. They are told by a session that packs
        # none, whose times are other ones.
        self._options.add_session_config_entry("session.disable_prepacking", "1")
        unpacked = ort.InferenceSession(self._path, self._options, providers=["CPUExecutionProvider"])
        unpacked.run(None, feed)
        self.details = node_details(events_of(unpacked))
        return node_times(timed)


def events_of(session: Any) -> list[dict[str, Any]]:
    """The trace of a session, which this ends."""
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


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
                runs[-1].append((name[: -len("_kernel_time")], kind, event["dur"]))
    return runs[:-1]


def node_details(events: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By node what computed it (`unit`) and what it took and gave: `inputs` (weights among them) and `outputs` as shapes,
    and the `bytes` of all of them; of a node that runs several times those of its last run."""
    found = {}
    for event in events:
        told = event.get("args", {})
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and "output_size" in told:
            sizes = (told.get(name, 0) for name in ("activation_size", "parameter_size", "output_size"))
            found[event["name"][: -len("_kernel_time")]] = {
                "unit": told.get("provider", ""),
                "inputs": shapes(told.get("input_type_shape", [])),
                "outputs": shapes(told.get("output_type_shape", [])),
                "bytes": sum(map(int, sizes)),
            }
    return found


def shapes(told: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    """Those of a trace's list of tensors, each `{type: shape}`."""
    return [shape for tensor in told for shape in tensor.values()]


load = OnnxSession
