"""ExecuTorch on the CPU, for the measuring agent (`agent.py` says what such a file has). Needs torch for its tensors."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TITLE = "ExecuTorch"
INSTALL = "pip install executorch torch"
TRACES = True

# ScalarType of ExecuTorch's tensors, as far as NumPy has the type.
DTYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}
# MemoryAllocationFailed, OutOfResources, DelegateMemoryAllocationFailed.
OUT_OF_MEMORY = re.compile(r"\berror:? 0x:?(21|25|31)\b")


def describe() -> dict[str, str]:
    """The runtime's fields of `Environment`. Imports it; raises ImportError where it is absent. Which delegates compute is
    the file's affair, so the provider is the CPU."""
    bindings()
    from executorch.version import __version__  # type: ignore[import-untyped]

    return {"runtime": "ExecuTorch", "runtime_version": __version__, "provider": "CPU"}


def bindings() -> Any:
    """The runtime's own module. `executorch.runtime` has the same under public names, but imports the exporter too: 7 s and
    140 MiB for nothing that a session uses."""
    # Its library needs those of torch, which are found once torch is loaded.
    import torch  # noqa: F401
    from executorch.extension.pybindings import _C  # type: ignore[import-untyped]

    return _C


def errors() -> tuple[type[Exception], ...]:
    """RuntimeError with a code in its text, whatever the cause; TypeError for an array that torch has no type for."""
    return (RuntimeError, TypeError)


def kind_of(error: Exception, stage: str) -> str:
    """The agent's kind for an error of the stage `load` or `run`."""
    text = str(error)
    if OUT_OF_MEMORY.search(text):
        return "memory"
    return "inputs" if "set_inputs()" in text or isinstance(error, TypeError) else stage


class ExecuTorchMethod:
    """The method `forward` with a pool of `threads` threads. Inputs have no names in the file: a single one is called
    `input`, several `input0`, `input1` and so on; a size that the file leaves open reads as the largest that it takes. A
    run is one call of the method, from torch tensors made beforehand to tensors with a copy of the outputs."""

    def __init__(
        self, path: str, threads: int, shapes: Mapping[str, Sequence[int]], trace_folder: str | None = None
    ) -> None:
        runtime = bindings()
        # Before the file is loaded, and once: a method goes on using the pool that it was loaded with, freed or not.
        if runtime._threadpool_get_thread_count() != threads:
            runtime._unsafe_reset_threadpool(threads)
        self._trace_folder = trace_folder
        self.details: dict[str, dict[str, Any]] = {}
        self._program = runtime._load_program(
            path,
            enable_etdump=trace_folder is not None,
            program_verification=runtime.Verification.InternalConsistency,
        )
        methods = [self._program.get_method_name(index) for index in range(self._program.num_methods())]
        if "forward" not in methods:
            raise RuntimeError(f"it has no method forward, but {', '.join(sorted(methods)) or 'none'}")
        self._method = self._program.load_method("forward")
        meta = self._method.method_meta()
        count = meta.num_inputs()
        tensors = [meta.input_tensor_meta(index) for index in range(count)]
        names = ["input"] if count == 1 else [f"input{index}" for index in range(count)]
        self.inputs = [
            (name, DTYPES.get(tensor.dtype(), f"ScalarType {tensor.dtype()}"), shapes.get(name) or list(tensor.sizes()))
            for name, tensor in zip(names, tensors)
        ]

    def feed(self, values: dict[str, Any]) -> list[Any]:
        """Tensors on the arrays' own memory, in the method's order."""
        import torch

        return [torch.from_numpy(values[name]) for name, _, _ in self.inputs]

    def run(self, feed: list[Any]) -> object:
        """All outputs."""
        return self._method(feed)

    def operators(self, feed: object) -> list[list[tuple[str, str, float]]]:
        """(name, operator, us) of what each traced run executed, in order; none from a runtime built without its tracer, or
        without the compiler of FlatBuffers that reads the trace."""
        assert self._trace_folder is not None
        dump = Path(self._trace_folder) / "run.etdp"
        self._program.write_etdump_result_to_file(str(dump), str(dump.with_suffix(".bin")))
        # executorch.devtools reads a trace the same way, but takes as long to import as a session.
        package = Path(bindings().__file__).parents[2]
        flatc = package / "data" / "bin" / "flatc"
        schema = package / "devtools" / "etdump" / "etdump_schema_flatcc.fbs"
        if not (dump.exists() and flatc.exists()):
            return []
        options = [
            "--json",
            "--strict-json",
            "--defaults-json",
            "--raw-binary",
            "--size-prefixed",
            "-o",
            self._trace_folder,
        ]
        subprocess.run([flatc, *options, schema, "--", dump], check=True)
        blocks = json.loads(dump.with_suffix(".json").read_text())["run_data"]
        runs = [block.get("events", []) for block in blocks if block["name"] == "Execute"]
        self.details = call_details(runs[-1]) if runs else {}
        return [call_times(events) for events in runs]


def call_times(events: Sequence[dict[str, Any]]) -> list[tuple[str, str, float]]:
    """The calls of one run from ExecuTorch's trace: kernels, and what a delegate says of its inside (XNNPACK: in whole us);
    a delegate that says nothing counts as one call. Names start with the number of the instruction."""
    timed = [event["profile_event"] for event in events if "profile_event" in event]
    opened = {event["instruction_id"] for event in timed if event.get("delegate_debug_id_str")}
    calls = []
    for event in timed:
        name, inside, instruction = event.get("name", ""), event.get("delegate_debug_id_str"), event["instruction_id"]
        if inside:
            label, kind = inside, inside.partition(" (")[0]
        elif name.startswith("native_call_"):
            label = kind = name.removeprefix("native_call_")
        elif name == "DELEGATE_CALL" and instruction not in opened:
            label = kind = "delegate"
        else:
            continue
        calls.append((f"{instruction} {label}", kind, (event["end_time"] - event["start_time"]) / 1e3))
    return calls


def call_details(events: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By call what computes it: a delegate, or a kernel of ExecuTorch's own."""
    found = {}
    for event in events:
        for name, _, _ in call_times([event]):
            kernel = event["profile_event"].get("name", "").startswith("native_call_")
            found[name] = {"unit": "ExecuTorch's own kernels" if kernel else "delegate"}
    return found


load = ExecuTorchMethod
