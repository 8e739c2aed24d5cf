"""The measuring agent: one ONNX model, one fresh process, raw latency samples.

This file stands alone (standard library, numpy, onnxruntime), so that it can be sent to a device and run there. It reads
one JSON job on stdin (the fields of `SessionJob`) and writes one JSON document on stdout: `{"session": {...},
"environment": {...}, "op_timings": [...]}`, or `{"error": {"kind": ..., "message": ...}}` with exit code 1. Kinds: `job`
(the job is malformed), `cpus` (cannot be pinned as asked), `load` (the runtime refuses the model), `inputs` (the values
do not fit the model), `run` (the model fails while running), `memory`. Anything else is a bug and keeps its traceback.

    python -EP agent.py [--parent PID] < job.json

With `--parent` the process ends when that parent does: an orphan would run on beside the next measurement.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Feed = dict[str, Any]

WARMUP_WINDOW_RUNS = 10
WARMUP_WINDOW_S = 0.02
WARMUP_TOLERANCE = 0.02
WARMUP_LIMIT_S = 3.0
WARMUP_LIMIT_RUNS = 5000
HARD_LIMIT_FACTOR = 4
REFERENCE_ROUNDS = 400
REFERENCE_PRODUCTS = 4
REFERENCE_REPEATS = 300
REFERENCE_TOLERANCE = 0.2
REFERENCE_POLL_S = 0.05
OPERATOR_RUNS = 60
OPERATOR_SECONDS = 2.0
OPERATOR_MIN_RUNS = 8
PARENT_POLL_S = 0.5


class AgentError(Exception):
    """A failure that the asking side can explain; `kind` is one of those in the module's docstring."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# -- the process ------------------------------------------------------------------------------------------------


def die_with_parent(parent: int) -> None:
    """End this process when `parent` ends: by the kernel's own signal on Linux, by asking twice a second elsewhere."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0) == 0:
            # The parent may have died before the call, and then no signal comes.
            if os.getppid() != parent:
                os._exit(1)
            return
    threading.Thread(target=poll_parent, args=(parent,), daemon=True).start()


def poll_parent(parent: int) -> None:
    """Leave at once, without clean-up, as soon as `parent` is no longer the parent."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os._exit(1)


def pin(cpus: Sequence[int]) -> list[int]:
    """Pin this process to `cpus`; returns those it really has, empty where the system cannot pin (macOS)."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    if cpus:
        try:
            os.sched_setaffinity(0, cpus)
        except OSError as error:
            raise AgentError("cpus", f"cannot pin to CPUs {list(cpus)}: {error.strerror}") from error
    return sorted(os.sched_getaffinity(0))


def status_bytes(field: str) -> int | None:
    """A memory figure of this process from the kernel (`VmHWM`, `VmRSS`), in bytes; None off Linux."""
    try:
        match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def peak_memory_bytes() -> int:
    """Largest resident size so far. `ru_maxrss` only where there is no VmHWM: on Linux it survives exec, so a child
    inherits the peak of the process that forked it."""
    peak = status_bytes("VmHWM")
    if peak is not None:
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak() -> None:
    """Let the kernel count the peak from now on (Linux 4.0 and later; elsewhere the peak stays that of the process)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


# -- the model --------------------------------------------------------------------------------------------------


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a class for each of its status codes, without a base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    classes = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*classes, RuntimeError)


def load(model: str, threads: int, trace_prefix: str | None = None) -> Any:
    """An InferenceSession as an app would have it: fully optimised, one run at a time, `threads` threads, none of which
    spins while it waits. Raises AgentError("load")."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if trace_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = trace_prefix
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except runtime_errors() as error:
        raise AgentError("load", f"ONNX Runtime {ort.__version__} cannot load {model}: {error}") from error


def random_values(type_name: str, shape: Sequence[int], generator: Any) -> Any:
    """Seeded values of an ONNX Runtime type such as `tensor(float16)`. Integers wider than a byte are 0 or 1, which every
    index and token table accepts."""
    kind = type_name.removeprefix("tensor(").removesuffix(")")
    if kind in ("float", "double", "float16"):
        return generator.standard_normal(shape).astype({"float": "float32", "double": "float64"}.get(kind, kind))
    if kind in ("uint8", "int8"):
        low, high = (0, 256) if kind == "uint8" else (-128, 128)
        return generator.integers(low, high, shape).astype(kind)
    if kind == "bool" or re.fullmatch(r"u?int(16|32|64)", kind):
        return generator.integers(0, 2, shape).astype(kind)
    raise AgentError("inputs", f"no values can be made for an input of type {type_name}")


def given_values(path: str | None) -> Any:
    """The .npy file of inputs, or None. Raises AgentError("inputs")."""
    import numpy as np

    if path is None:
        return None
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AgentError("inputs", f"{path} cannot be read as an array: {error}") from error
    if values.ndim == 0 or len(values) == 0:
        raise AgentError("inputs", f"{path} holds no inputs")
    return values


def make_feeds(session: Any, job: dict[str, Any], values: Any) -> list[Feed]:
    """The inputs of successive runs: `values` one by one, the same random values for every other input."""
    import numpy as np

    generator = np.random.default_rng(0)
    given_name, given_shapes = job["input_name"], job["input_shapes"]
    declared = {node.name: node for node in session.get_inputs()}
    wrong = sorted(set(given_shapes) - set(declared))
    if values is not None and given_name not in declared:
        wrong.append(given_name)
    if wrong:
        raise AgentError("inputs", f"the model has no input {', '.join(wrong)}; it has {', '.join(sorted(declared))}")
    fixed: Feed = {}
    for name, node in declared.items():
        if values is not None and name == given_name:
            continue
        shape = given_shapes.get(name) or [size if isinstance(size, int) else 1 for size in node.shape]
        fixed[name] = random_values(node.type, shape, generator)
    if values is None:
        return [fixed]
    return [{**fixed, given_name: np.ascontiguousarray(values[i : i + 1])} for i in range(len(values))]


# -- measuring --------------------------------------------------------------------------------------------------


def reference_us() -> float:
    """Median duration in us of a fixed piece of arithmetic: how fast the processor is now, whatever the model; about 6 ms in
    all. A lower clock and a throttled device show in it, and a neighbour on the other thread of the same core: that one
    slows an interpreter by 1.9, small matrix products by 1.4 and whole networks by 1.5 to 1.6, as it does this mix."""
    import numpy as np

    clock = time.perf_counter_ns
    matrix = np.full((48, 48), 0.5, np.float32)
    durations = []
    for _ in range(REFERENCE_REPEATS):
        start = clock()
        for _ in range(REFERENCE_PRODUCTS):
            matrix @ matrix
        total = 0
        for number in range(REFERENCE_ROUNDS):
            total += number
        durations.append(clock() - start)
    return statistics.median(durations) / 1e3


def await_speed(wanted_us: float | None, limit_s: float) -> float:
    """Wait until the processor has the speed that `wanted_us` (of `reference_us`) tells, neither slower nor faster; returns
    the seconds waited, `limit_s` at most."""
    began = time.perf_counter()
    waited = 0.0
    while wanted_us is not None and waited < limit_s and abs(reference_us() / wanted_us - 1) > REFERENCE_TOLERANCE:
        time.sleep(REFERENCE_POLL_S)
        waited = time.perf_counter() - began
    return waited


def warm_up(run: Callable[[Feed], object], feeds: Sequence[Feed]) -> int:
    """Run until the medians of two successive windows lie within 2% of each other, or a limit is reached; returns the
    number of runs. A window is at least 10 runs and 20 ms, so that a fast model's window spans more than one clock tick
    of the frequency governor."""
    turn = itertools.cycle(feeds)
    began = time.perf_counter()
    runs, previous = 0, None
    while True:
        window: list[int] = []
        window_began = time.perf_counter()
        while len(window) < WARMUP_WINDOW_RUNS or time.perf_counter() - window_began < WARMUP_WINDOW_S:
            start = time.perf_counter_ns()
            run(next(turn))
            window.append(time.perf_counter_ns() - start)
            if time.perf_counter() - began > WARMUP_LIMIT_S and runs + len(window) >= 3:
                return runs + len(window)
        runs += len(window)
        median = statistics.median(window)
        if runs >= WARMUP_LIMIT_RUNS or (previous is not None and abs(median / previous - 1) <= WARMUP_TOLERANCE):
            return runs
        previous = median


def take_samples(
    run: Callable[[Feed], object], feeds: Sequence[Feed], max_samples: int, max_seconds: float, min_samples: int
) -> list[int]:
    """Raw durations in ns, in the order taken. Ends at `max_samples`; after `max_seconds` if there are `min_samples`; after
    four times `max_seconds` whatever there is. The garbage collector is off meanwhile: its pauses are not the model's."""
    clock = time.perf_counter_ns
    samples: list[int] = []
    gc.collect()
    gc.disable()
    try:
        began = clock()
        enough = began + round(max_seconds * 1e9)
        too_long = began + round(max_seconds * 1e9 * HARD_LIMIT_FACTOR)
        for feed in itertools.cycle(feeds):
            start = clock()
            run(feed)
            end = clock()
            samples.append(end - start)
            count = len(samples)
            if count >= max_samples or end >= too_long or (end >= enough and count >= min_samples):
                break
    finally:
        gc.enable()
    return samples


def operator_medians(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median time of each node of the executed graph from ONNX Runtime's trace, in order of execution. The first quarter
    of the runs is dropped as warm-up. A node that runs several times within one run (in a loop) counts with their sum; If,
    Loop and Scan themselves are left out, since their time is that of the nodes inside."""
    runs: list[dict[str, int]] = [{}]
    kinds: dict[str, str] = {}
    for event in events:
        name = event["name"]
        if event.get("cat") == "Session" and name == "model_run":
            runs.append({})
        elif event.get("cat") == "Node" and name.endswith("_kernel_time"):
            node, kind = name.removesuffix("_kernel_time"), event["args"]["op_name"]
            if kind not in ("If", "Loop", "Scan"):
                kinds.setdefault(node, kind)
                runs[-1][node] = runs[-1].get(node, 0) + event["dur"]
    finished = runs[:-1]
    kept = finished[len(finished) // 4 :]
    return [
        {"name": node, "op_type": kind, "median_us": statistics.median(run.get(node, 0) for run in kept)}
        for node, kind in kinds.items()
    ]


def time_operators(model: str, threads: int, feeds: Sequence[Feed]) -> list[dict[str, Any]]:
    """Per-operator times from a session apart, since tracing slows the model down."""
    with tempfile.TemporaryDirectory(prefix="edgedistill-trace-") as folder:
        session = load(model, threads, str(Path(folder) / "trace"))
        turn = itertools.cycle(feeds)
        began = time.perf_counter()
        for count in range(OPERATOR_RUNS):
            if count >= OPERATOR_MIN_RUNS and time.perf_counter() - began > OPERATOR_SECONDS:
                break
            session.run(None, next(turn))
        return operator_medians(json.loads(Path(session.end_profiling()).read_text()))


# -- the surroundings -------------------------------------------------------------------------------------------


def read_text(path: str) -> str:
    """A small file of the system, stripped of blanks and the device tree's zero bytes; empty if it cannot be read."""
    try:
        return Path(path).read_text().strip("\0 \n")
    except (OSError, UnicodeDecodeError):
        return ""


def sysctl(name: str) -> str:
    """A value of macOS' sysctl, empty if there is none."""
    result = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)
    return result.stdout.strip()


def cpu_name() -> str:
    """The processor's marketing name, or the machine type where the system names none (most arm64 Linux)."""
    if sys.platform == "darwin":
        return sysctl("machdep.cpu.brand_string") or platform.machine()
    match = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", read_text("/proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def device_name() -> str:
    """The board or Mac by its model name, any other machine by its processor."""
    board = sysctl("hw.model") if sys.platform == "darwin" else read_text("/proc/device-tree/model")
    return board or cpu_name()


def os_name() -> str:
    """Distribution or macOS version, with the kernel's release."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        distribution = platform.system()
    return f"{distribution}, kernel {platform.release()}"


def temperature_c() -> float | None:
    """The hottest thermal zone that reads plausibly, in degrees Celsius; None where none can be read."""
    texts = (read_text(str(zone / "temp")) for zone in Path("/sys/class/thermal").glob("thermal_zone*"))
    plausible = [int(text) / 1000 for text in texts if re.fullmatch(r"\d+", text) and 0 < int(text) < 150_000]
    return max(plausible, default=None)


def power_mode(cpu: int) -> str:
    """The frequency governor of `cpu`, `unknown` where it cannot be read (virtual machines, macOS)."""
    return read_text(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor") or "unknown"


def describe_environment(threads: int, cpus: Sequence[int]) -> dict[str, Any]:
    """The fields of `Environment`."""
    import onnxruntime as ort

    return {
        "device": device_name(),
        "os": os_name(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "runtime": "onnxruntime",
        "runtime_version": ort.__version__,
        "provider": "CPUExecutionProvider",
        "threads": threads,
        "pinned_cpus": list(cpus),
        "power": power_mode(cpus[0] if cpus else 0),
        "temperature_c": temperature_c(),
    }


# -- one session ------------------------------------------------------------------------------------------------


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Pin, load, warm up, sample, then trace operators and describe the surroundings."""
    cpus = pin(job["pinned_cpus"])
    import onnxruntime as ort

    # Read before the memory is taken stock of, so that the inputs do not count as the model's.
    values = given_values(job["inputs"])
    before = status_bytes("VmRSS")
    imports_peak = peak_memory_bytes()
    reset_peak()
    began = time.perf_counter_ns()
    session = load(job["model"], job["threads"])
    load_ms = (time.perf_counter_ns() - began) / 1e6
    feeds = make_feeds(session, job, values)

    def run(feed: Feed) -> object:
        return session.run(None, feed)

    try:
        waited_s = await_speed(job["reference_us"], job["wait_s"])
        warmup_runs = warm_up(run, feeds)
        before_us = reference_us()
        samples = take_samples(run, feeds, job["max_samples"], job["max_seconds"], job["min_samples"])
        after_us = reference_us()
        peak = peak_memory_bytes()
        operators = time_operators(job["model"], job["threads"], feeds) if job["operators"] else []
    except runtime_errors() as error:
        kind = "inputs" if "INVALID_ARGUMENT" in str(error) else "run"
        raise AgentError(kind, f"ONNX Runtime {ort.__version__} fails to run {job['model']}: {error}") from error
    return {
        "session": {
            "samples_ns": samples,
            "warmup_runs": warmup_runs,
            "references_us": [before_us, after_us],
            "waited_s": waited_s,
            "load_ms": load_ms,
            "peak_memory_bytes": max(peak, imports_peak),
            "model_memory_bytes": max(peak - (imports_peak if before is None else before), 0),
        },
        "environment": describe_environment(job["threads"], cpus),
        "op_timings": operators,
    }


def main() -> int:
    """Read the job, measure, answer."""
    if "--parent" in sys.argv:
        die_with_parent(int(sys.argv[sys.argv.index("--parent") + 1]))
    # Whatever a library prints goes to stderr, so that stdout carries the answer alone.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        try:
            job = json.load(sys.stdin)
            required = {"model", "threads", "max_samples", "max_seconds"}
            defaults: dict[str, Any] = {"inputs": None, "input_name": "", "input_shapes": {}, "pinned_cpus": []}
            defaults |= {"min_samples": 60, "operators": False, "reference_us": None, "wait_s": 0.0}
            job = {**defaults, **job}
            if missing := sorted(required - set(job)):
                raise AgentError("job", f"the job lacks {', '.join(missing)}")
        except (ValueError, TypeError) as error:
            raise AgentError("job", f"the job on stdin is not a JSON object: {error}") from error
        document, code = measure(job), 0
    except AgentError as error:
        document, code = {"error": {"kind": error.kind, "message": str(error)}}, 1
    except MemoryError:
        document, code = {"error": {"kind": "memory", "message": "out of memory"}}, 1
    with answer:
        json.dump(document, answer, allow_nan=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
