"""This machine as a device: real child processes on small models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import save_classifier

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, Note
from edgedistill.devices import local
from edgedistill.devices.agent.agent_machine import allowed_cpus
from edgedistill.devices.base import AGENT, AGENT_FILES, SessionFailure, sample
from edgedistill.devices.local import LocalDevice, pick_cpus
from edgedistill.devices.session import SessionJob
from edgedistill.devices.stats import elapsed_s
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for

LINUX = sys.platform == "linux"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "model.onnx")


@pytest.fixture
def device(tmp_path: Path) -> LocalDevice:
    return LocalDevice(lock_file=tmp_path / "measuring.lock")


LOADER = format_for(Format.ONNX).on_device


def job(model: Path, **changes: Any) -> SessionJob:
    return SessionJob.model_validate(
        {"model": model, "loader": LOADER, "threads": 1, "seconds": 0.2, "min_runs": 60, "operators": False} | changes
    )


def test_report_is_complete(device: LocalDevice, model: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8))
    device.connect()
    report = device.run(job(device.push(model), inputs=inputs, input_name="image", operators=True))
    session, where = report.session, report.environment
    assert len(session.samples_ns) >= 60
    assert min(session.samples_ns) > 1000
    assert (session.anchor_ns, session.turns) == ((), ())
    assert session.start is not None and session.end is not None
    assert 0.2 <= elapsed_s(session.start, session.end) < 5
    assert session.start.reference_us is not None and session.end.reference_us is not None
    assert session.warmup_runs >= 3
    assert session.load_ms > 0 and session.first_run_ms is not None and session.first_run_ms > 0
    assert 0 < session.model_memory_bytes < session.peak_memory_bytes < 2**31
    assert session.peak_memory_bytes > 10 * 2**20, "an interpreter with numpy is larger than that"
    kinds = [timing.op_type for timing in report.op_timings]
    assert kinds.count("Conv") + kinds.count("FusedConv") == 2
    assert all(timing.median_us >= 0 for timing in report.op_timings)
    assert sum(timing.median_us for timing in report.op_timings) > 0
    assert where.runtime == "onnxruntime"
    assert where.provider == "CPUExecutionProvider"
    assert where.threads == 1
    assert all((where.device, where.os, where.machine, where.cpu, where.runtime_version, where.power))


@pytest.mark.skipif(not LINUX, reason="affinity exists on Linux only")
def test_pinned_to_the_cpus_that_are_picked_or_asked_for(device: LocalDevice, model: Path) -> None:
    for pinned in ((), tuple(allowed_cpus()[:1])):
        where = device.run(job(model, pinned_cpus=pinned)).environment
        assert where.pinned_cpus == (pinned or pick_cpus(1))
        (core,) = where.cores
        assert core.cpu == where.pinned_cpus[0] and core.cpu in core.siblings


def test_any_model_with_made_up_inputs(device: LocalDevice, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "tokens"], ["rows"]),
            helper.make_node("Mul", ["rows", "scale"], ["out"]),
        ],
        "embedding",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT16, [1]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT16, ["batch", "length", 4])],
        [numpy_helper.from_array(np.ones((2, 4), np.float16), "table")],
    )
    path = tmp_path / "embedding.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    report = device.run(job(path, input_shapes={"tokens": (2, 9)}))
    assert len(report.session.samples_ns) >= 60
    assert report.op_timings == ()


def test_two_models_run_in_turn_in_one_process(device: LocalDevice, model: Path, tmp_path: Path) -> None:
    """One has sixteen times the pixels of the other; both have runs in every turn, and all of them are told."""
    large = save_classifier(tmp_path / "large.onnx", side=64)
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8))
    asked = job(model, anchor=large, burst_s=0.005, seconds=1.0, inputs=inputs, input_name="image", operators=True)
    report = device.run(asked)
    session = report.session
    assert tuple(map(sum, zip(*session.turns, strict=True))) == (len(session.samples_ns), len(session.anchor_ns))
    assert len(session.turns) > 10
    assert all(min(turn) >= 5 for turn in session.turns[:-1])
    assert np.median(session.anchor_ns) > 3 * np.median(session.samples_ns), "each has its own durations"
    assert report.op_timings, "operators are those of the model"
    assert sum(timing.median_us for timing in report.op_timings) < np.median(session.anchor_ns) / 1e3 * 3


def test_the_anchors_memory_is_not_the_models(device: LocalDevice, model: Path, tmp_path: Path) -> None:
    large = save_classifier(tmp_path / "large.onnx", side=256)
    alone, beside = (device.run(job(model, anchor=anchor)).session for anchor in (None, large))
    anchors = device.run(job(large)).session
    assert anchors.model_memory_bytes > 8 * 2**20 + alone.model_memory_bytes
    assert beside.model_memory_bytes < alone.model_memory_bytes + 4 * 2**20


def test_a_broken_anchor_is_named(device: LocalDevice, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(SessionFailure, match=r"cannot load .*broken\.onnx"):
        device.run(job(model, anchor=broken))


def test_what_the_agent_measures_in_its_own_process_is_taken_alike() -> None:
    """A runtime that measures here is sampled as the agent samples."""

    def run(duration_s: float) -> int:
        began = time.perf_counter_ns()
        time.sleep(duration_s)
        return time.perf_counter_ns() - began

    asked = job(Path("model"), seconds=0.3, min_runs=20, burst_s=0.01)
    taken = sample([lambda: run(0.001), lambda: run(0.004)], asked)
    both = taken["samples_ns"], taken["anchor_ns"]
    assert [len(of) for of in both] == [sum(of) for of in zip(*taken["turns"], strict=True)]
    assert min(map(len, both)) >= 20 and taken["warmup_runs"] >= 3
    assert min(both[0]) >= 1_000_000 and min(both[1]) >= 4_000_000
    alone = sample([lambda: run(0.001)], asked)
    assert alone["samples_ns"] and not alone["anchor_ns"] and not alone["turns"]


def test_a_broken_model_is_a_failure_of_that_model(device: LocalDevice, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(SessionFailure, match=r"cannot load .*broken\.onnx") as caught:
        device.run(job(broken))
    assert caught.value.kind == "load"


def test_inputs_that_do_not_fit(device: LocalDevice, model: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(InputError, match="invalid dimensions"):
        device.run(job(model, inputs=inputs, input_name="image"))
    with pytest.raises(InputError, match="no input picture; it has image"):
        device.run(job(model, inputs=inputs, input_name="picture"))
    with pytest.raises(InputError, match=r"the model takes image uint8\[1, 3, 16, 16\]"):
        device.run(job(model, inputs=inputs))
    inputs.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read as an array"):
        device.run(job(model, inputs=inputs, input_name="image"))


@pytest.mark.skipif(not LINUX, reason="affinity exists on Linux only")
def test_cpus_that_do_not_exist(device: LocalDevice, model: Path) -> None:
    with pytest.raises(InputError, match="cannot pin to CPUs"):
        device.run(job(model, pinned_cpus=(1023,)))


def test_more_threads_than_cpus() -> None:
    with pytest.raises(InputError, match="this process may use"):
        pick_cpus(len(allowed_cpus()) + 1)


def test_push_of_nothing(device: LocalDevice, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        device.push(tmp_path / "absent.onnx")


def test_facts_do_not_change_from_call_to_call(device: LocalDevice) -> None:
    facts = device.facts("onnxruntime")
    assert facts == device.facts("onnxruntime")
    assert {"processor", "cpus", "memory", "system", "onnxruntime"} <= set(facts)
    assert device.facts("no-such-runtime")["no-such-runtime"] == "absent"


def test_disturbing_variables_are_not_inherited(
    device: LocalDevice, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.chdir(tmp_path)
    assert len(device.run(job(model)).session.samples_ns) >= 60


def test_sessions_wait_for_one_another(model: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    lock_file = tmp_path / "measuring.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys, time; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX);"
         "print('held', flush=True); time.sleep(0.5)", str(lock_file)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    LocalDevice(heard.append, lock_file).run(job(model))
    assert holder.wait() == 0
    assert any(isinstance(event, Note) and "another measurement" in event.text for event in heard)


def copied_agent(folder: Path) -> Path:
    """The agent as a device has it: its files alone in a folder."""
    for file in AGENT_FILES:
        shutil.copy(file, folder)
    return folder / AGENT.name


def children_running(script: Path) -> list[int]:
    """Processes that run `script` (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                alive = b") Z " not in (entry / "stat").read_bytes()
            except OSError:
                continue
            if str(script).encode() in command and alive:
                found.append(int(entry.name))
    return found


def wait_until(condition: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


PARENT = """
import subprocess, sys, os
agent, request, before = sys.argv[1:]
code = before + "\\nimport runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
child = subprocess.Popen(
    [sys.executable, "-c", code, agent, "--parent", str(os.getpid())], stdin=subprocess.PIPE, text=True)
child.stdin.write(request)
child.stdin.close()
print("started", flush=True)
child.wait()
"""


@pytest.mark.skipif(not LINUX, reason="reads /proc")
@pytest.mark.parametrize("before", ["", "import sys; sys.platform = 'other'"], ids=["kernel", "polling"])
def test_agent_dies_with_its_parent(model: Path, tmp_path: Path, before: str) -> None:
    agent = copied_agent(tmp_path)
    request = job(model, seconds=120.0).model_dump_json()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(agent), request, before], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()

    def sampling() -> bool:
        return any(b"onnxruntime" in Path(f"/proc/{pid}/maps").read_bytes() for pid in children_running(agent)
                   if pid != parent.pid)  # fmt: skip

    assert wait_until(sampling, 20), "the agent never came as far as its model"
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_until(lambda: not children_running(agent), 2), "an orphan goes on measuring"


@pytest.mark.skipif(not LINUX, reason="reads /proc")
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, subprocess.TimeoutExpired("agent", 1)])
def test_child_is_ended_when_the_wait_is(
    device: LocalDevice, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interruption: Any
) -> None:
    agent = copied_agent(tmp_path)
    monkeypatch.setattr(local, "AGENT", agent)
    original = subprocess.Popen.communicate

    def interrupted(process: Any, request: str | None = None, timeout: float | None = None) -> Any:
        if timeout is None:
            return original(process)
        if request is not None:
            process.stdin.write(request)
            process.stdin.flush()
        assert wait_until(lambda: children_running(agent), 10)
        raise interruption

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    expected = KeyboardInterrupt if interruption is KeyboardInterrupt else SessionFailure
    with pytest.raises(expected):
        device.run(job(model, seconds=60.0))
    assert not children_running(agent)


def test_a_model_slower_than_four_times_its_seconds_runs_once(device: LocalDevice, tmp_path: Path) -> None:
    """The session still ends in time, with what there is."""
    slow = save_classifier(tmp_path / "slow.onnx", side=1024)
    began = time.monotonic()
    session = device.run(job(slow, seconds=0.001, min_runs=300)).session
    assert 1 <= len(session.samples_ns) < 5
    assert time.monotonic() - began < 60


NO_LOADER = json.dumps({"model": "m", "loader": "no-such-file.py", "threads": 1, "seconds": 1})


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", NO_LOADER])
def test_malformed_jobs_are_answered_in_json(text: str) -> None:
    result = subprocess.run([sys.executable, str(AGENT)], input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["kind"] == "job"
    assert result.stderr == ""
