"""The measuring agent: one model file, or two in turn, in one fresh process: raw latency samples.

The files `agent*.py` and a format's `on_device.py` stand alone (standard library, numpy, one runtime; Python 3.8 or newer),
so that they can be sent to a device and run there. The agent reads one JSON job on stdin (the fields of `SessionJob`, and
`memory_bytes`: what the model may take where the system can enforce it, null for no limit) and writes one JSON document on
stdout: `{"session": {...}, "environment": {...}, "op_timings": [...], "fallbacks": {...}}` (null where the runtime does not
tell them), or `{"error": {"kind": ..., "message": ..., "fix": ...}}` with exit code 1. Kinds: `job` (the job is malformed),
`runtime` (the runtime is not installed), `cpus` (cannot be pinned as asked), `load` (the runtime refuses the model),
`inputs` (the values do not fit the model), `run` (the model fails while running), `memory`. Anything else is a bug and
keeps its traceback.

    python -EP agent.py [--parent PID] < job.json

With `--parent` the process ends when that parent does: an orphan would run on beside the next measurement.

The file that a job names as its `loader` is the format's. It holds `TITLE` (its name for people), `INSTALL` (the command
that brings it), `describe`, `errors`, `kind_of`, `load`, which gives a Model, and `TRACES`: whether `load` takes a folder
for a trace.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

FIXES = {
    "cpus": "ask for fewer threads, or widen the CPUs that this process may use",
    "inputs": "give values that match the model's inputs",
    "run": "export the model again, for inputs of the size that it states",
    "memory": "export the model again, for smaller inputs, or take a smaller one",
}
DEFAULTS: dict[str, Any] = {
    "inputs": None,
    "input_name": "",
    "input_shapes": {},
    "pinned_cpus": [],
    "min_runs": 1,
    "operators": False,
    "anchor": None,
    "burst_s": 0.04,
    "memory_bytes": None,
}
OUT_OF_MEMORY = re.compile("bad_?alloc|allocate memory|Unable to allocate")

OPERATOR_RUNS = 60
OPERATOR_SECONDS = 2.0
OPERATOR_MIN_RUNS = 8


class AgentError(Exception):
    """A failure that the asking side can explain; `kind` is one of those in the module's docstring."""

    def __init__(self, kind: str, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.fix = fix or FIXES.get(kind, "")


class Model(Protocol):
    """A loaded file of a runtime. `inputs`: (name, dtype as NumPy calls it, shape) of each, -1 for an open size. `details`:
    what a trace tells of an operator beside its time, by name, as fields of `OpTiming`; empty before `operators`.

    A runtime that times itself has `load_ns` and `last_run_ns` besides, which then count in place of this process' clock.
    One that tells what computes the operations has `fallbacks()`, the fields of `Fallbacks`."""

    inputs: Sequence[tuple[str, str, Sequence[int]]]
    details: dict[str, dict[str, Any]]

    def feed(self, values: dict[str, Any]) -> Any:
        """What `run` takes, made of an array for each input by name."""

    def run(self, feed: Any) -> object:
        """One run, the part that is timed; returns all outputs."""

    def operators(self, feed: Any) -> list[list[tuple[str, str, float]]]:
        """(name, operator, us) of what each run so far executed, where the runtime traces. `feed` is for one more run, which
        counts for `details` alone."""


def neighbour(name: str) -> Any:
    """The module of the file beside this one."""
    return module_at(Path(__file__).with_name(f"{name}.py"))


@functools.lru_cache(maxsize=None)  # noqa: UP033 (Python 3.8)
def module_at(path: Path) -> Any:
    """The module of a file. Its folder is not on the path for imports: the files there would hide others'."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the model --------------------------------------------------------------------------------------------------


def random_values(kind: str, shape: Sequence[int], generator: Any) -> Any:
    """Seeded values of a NumPy dtype. Integers wider than a byte are 0 or 1, which every index and token table accepts."""
    import numpy as np

    if kind in ("float16", "float32", "float64"):
        return np.asarray(generator.standard_normal(shape)).astype(kind)
    if not re.fullmatch(r"bool|u?int(8|16|32|64)", kind):
        raise AgentError("inputs", f"no values can be made for an input of type {kind}")
    low, high = {"uint8": (0, 256), "int8": (-128, 128)}.get(kind, (0, 2))
    return np.asarray(generator.integers(low, high, shape)).astype(kind)


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


def make_feeds(model: Model, job: dict[str, Any], values: Any) -> list[Any]:
    """What successive runs take: `values` one by one, the same random values for every other input."""
    import numpy as np

    generator = np.random.default_rng(0)
    given_shapes = job["input_shapes"]
    names = [name for name, _, _ in model.inputs]
    given_name = job["input_name"] or next(iter(names), "")
    wrong = sorted(set(given_shapes) - set(names))
    if values is not None and given_name not in names:
        wrong.append(given_name)
    if wrong:
        raise AgentError("inputs", f"the model has no input {', '.join(wrong)}; it has {', '.join(sorted(names))}")
    fixed = {
        name: random_values(kind, given_shapes.get(name) or [1 if size < 0 else size for size in shape], generator)
        for name, kind, shape in model.inputs
        if values is None or name != given_name
    }
    if values is None:
        return [model.feed(fixed)]
    return [model.feed({**fixed, given_name: np.ascontiguousarray(values[i : i + 1])}) for i in range(len(values))]


# -- operators --------------------------------------------------------------------------------------------------


def time_operators(model: Model, feeds: Sequence[Any]) -> list[dict[str, Any]]:
    """Per-operator times of a model that traces its runs: one apart, since tracing slows it down."""
    turn = itertools.cycle(feeds)
    began = time.perf_counter()
    for count in range(OPERATOR_RUNS):
        if count >= OPERATOR_MIN_RUNS and time.perf_counter() - began > OPERATOR_SECONDS:
            break
        model.run(next(turn))
    timings = operator_medians(model.operators(feeds[0]))
    return [{**timing, **model.details.get(timing["name"], {})} for timing in timings]


def operator_medians(runs: Sequence[Sequence[tuple[str, str, float]]]) -> list[dict[str, Any]]:
    """Median time of each node of the executed graph, in order of execution, from (name, operator, us) of each run; the
    first quarter of the runs is dropped as warm-up. A node that runs several times within one run (in a loop) counts with
    their sum."""
    kinds = {name: kind for run in runs for name, kind, _ in run}
    sums: list[dict[str, float]] = []
    for run in runs[len(runs) // 4 :]:
        sums.append({})
        for name, _, duration_us in run:
            sums[-1][name] = sums[-1].get(name, 0) + duration_us
    return [
        {"name": name, "op_type": kind, "median_us": statistics.median(run.get(name, 0) for run in sums)}
        for name, kind in kinds.items()
    ]


# -- one session ------------------------------------------------------------------------------------------------


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Pin, load, warm up, sample, then trace operators and describe the surroundings."""
    machine, runtime = neighbour("agent_machine"), module_at(Path(job["loader"]))
    sampling = neighbour("agent_sampling")
    try:
        cpus = machine.pin(job["pinned_cpus"])
    except OSError as error:
        raise AgentError("cpus", f"cannot pin to CPUs {job['pinned_cpus']}: {error.strerror}") from error
    try:
        described = runtime.describe()
    except ImportError as error:
        raise AgentError("runtime", f"{runtime.TITLE} cannot be imported: {error}", runtime.INSTALL) from error
    # Read before the memory is taken stock of, so that the inputs do not count as the model's.
    values = given_values(job["inputs"])
    before = machine.status_bytes("VmRSS")
    imports_peak = machine.peak_memory_bytes()
    machine.reset_peak()
    machine.limit_memory(job["memory_bytes"])
    began = time.perf_counter_ns()
    model = loaded(job, runtime)
    load_ms = getattr(model, "load_ns", time.perf_counter_ns() - began) / 1e6
    with failing("run", job, runtime, model):
        feeds = make_feeds(model, job, values)
        runs = [timed(model, feeds)]
        first_run_ms = runs[0]() / 1e6
        warmup_runs = sampling.warm_up(runs)
        # Before the anchor is loaded, whose memory is not the model's.
        peak = machine.peak_memory_bytes()
    if job["anchor"] is not None:
        beside = {**job, "model": job["anchor"], "input_shapes": {}}
        anchor = loaded(beside, runtime)
        with failing("run", beside, runtime, anchor):
            runs.append(timed(anchor, make_feeds(anchor, beside, None)))
            sampling.warm_up(runs[1:])
    with failing("run", job, runtime, model):
        start = moment(cpus)
        taken = sampling.take_samples(runs, job["seconds"], job["min_runs"], job["burst_s"])
        end = moment(cpus)
        fallbacks = model.fallbacks() if hasattr(model, "fallbacks") else None
        operators = []
        if job["operators"] and runtime.TRACES:
            with tempfile.TemporaryDirectory(prefix="edgedistill-trace-") as folder:
                traced = runtime.load(job["model"], job["threads"], job["input_shapes"], folder)
                operators = time_operators(traced, feeds)
    return {
        "session": {
            **sampling.as_fields(taken, warmup_runs),
            "start": start,
            "end": end,
            "load_ms": load_ms,
            "first_run_ms": first_run_ms,
            "peak_memory_bytes": max(peak, imports_peak),
            "model_memory_bytes": max(peak - (imports_peak if before is None else before), 0),
        },
        "environment": {**machine.describe(cpus), **described, "threads": job["threads"]},
        "op_timings": operators,
        "fallbacks": fallbacks,
    }


def moment(cpus: Sequence[int]) -> dict[str, Any]:
    """The fields of `Moment`."""
    now: dict[str, Any] = neighbour("agent_machine").moment(cpus)
    return {**now, **neighbour("agent_heat").heat(cpus[0] if cpus else 0)}


def loaded(job: dict[str, Any], runtime: Any) -> Model:
    """The job's model. Raises AgentError("load")."""
    with failing("load", job, runtime):
        model: Model = runtime.load(job["model"], job["threads"], job["input_shapes"])
    return model


def timed(model: Model, feeds: Sequence[Any]) -> Callable[[], int]:
    """One run, of the next input; returns its duration in ns."""
    turn, run, clock = itertools.cycle(feeds), model.run, time.perf_counter_ns
    timing_itself: Any = model if hasattr(model, "last_run_ns") else None

    def told() -> int:
        run(next(turn))
        duration_ns: int = timing_itself.last_run_ns
        return duration_ns

    def once() -> int:
        feed = next(turn)
        start = clock()
        run(feed)
        return clock() - start

    return once if timing_itself is None else told


@contextlib.contextmanager
def failing(stage: str, job: dict[str, Any], runtime: Any, model: Model | None = None) -> Iterator[None]:
    """What the runtime raises in the stage `load` or `run` becomes an AgentError that says what failed, and why."""
    try:
        yield
    except (MemoryError, *runtime.errors()) as error:
        title = f"{runtime.TITLE} {runtime.describe()['runtime_version']}"
        what = f"{title} {'cannot load' if stage == 'load' else 'fails to run'} {job['model']}"
        failed = failure(error, stage, what, job, runtime)
        if failed.kind == "inputs" and model is not None:
            takes = ", ".join(f"{name} {dtype}{list(shape)}" for name, dtype, shape in model.inputs)
            failed = AgentError("inputs", f"{failed}; the model takes {takes}")
        raise failed from error


def failure(error: Exception, stage: str, what: str, job: dict[str, Any], runtime: Any) -> AgentError:
    """What an error of the stage `load` or `run` means: `what` failed, why, and the way out."""
    said = str(error).strip() or type(error).__name__
    starved = isinstance(error, MemoryError) or OUT_OF_MEMORY.search(said)
    kind = "memory" if starved else runtime.kind_of(error, stage)
    if kind == "memory" and job["memory_bytes"] is not None:
        allowed = f"{job['memory_bytes'] / 2**30:.1f} GiB"
        return AgentError(
            kind, f"{what}: it asks for more than the {allowed} that a file of its size may take ({said})"
        )
    if kind == "load":
        upgrade = runtime.INSTALL.replace("install", "install --upgrade")
        return AgentError(
            kind, f"{what}: {said}", f"export the model again, or bring a newer {runtime.TITLE}: {upgrade}"
        )
    return AgentError(kind, f"{what}: {said}")


def main() -> int:
    """Read the job, measure, answer."""
    if "--parent" in sys.argv:
        neighbour("agent_machine").die_with_parent(int(sys.argv[sys.argv.index("--parent") + 1]))
    # Whatever a library prints goes to stderr, so that stdout carries the answer alone.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        try:
            job = {**DEFAULTS, **json.load(sys.stdin)}
            if missing := sorted({"model", "loader", "threads", "seconds"} - set(job)):
                raise AgentError("job", f"the job lacks {', '.join(missing)}")
            if not Path(job["loader"]).is_file():
                raise AgentError("job", f"there is no file {job['loader']} to load the model with")
        except (ValueError, TypeError) as error:
            raise AgentError("job", f"the job on stdin is not a JSON object: {error}") from error
        document, code = measure(job), 0
    except (AgentError, MemoryError) as error:
        told = error if isinstance(error, AgentError) else AgentError("memory", "there is not enough memory to measure")
        document, code = {"error": {"kind": told.kind, "message": str(told), "fix": told.fix}}, 1
    with answer:
        json.dump(document, answer, allow_nan=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
