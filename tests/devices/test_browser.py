"""A real browser as a device: sessions, what goes wrong, what is left; and what a page is served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import web_runtime
from onnx import TensorProto, helper
from small_models import save_classifier

from edgedistill.base.errors import InputError, MissingDependencyError, UnreachableError
from edgedistill.devices.agent.agent_machine import allowed_cpus
from edgedistill.devices.agent.agent_sampling import BURST_RUNS, WARMUP_RUNS
from edgedistill.devices.base import SessionFailure
from edgedistill.devices.browser import device as devices
from edgedistill.devices.browser import found
from edgedistill.devices.browser.device import BrowserDevice
from edgedistill.devices.browser.process import Browser
from edgedistill.devices.browser.serving import Conversation, served
from edgedistill.devices.session import SessionJob


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "model.onnx")


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(found.RUNTIME_VARIABLE, str(web_runtime.onnxruntime_web()))
    monkeypatch.setitem(devices.LIMITS, "warmup_s", 0.25)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    yield BrowserDevice(lock_file=tmp_path / "lock")
    assert browsers(tmp_path) == [] and list((tmp_path / "temporary").iterdir()) == [], "nothing is left"


def browsers(folder: Path) -> list[int]:
    """Processes whose profile lies in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"--user-data-dir={folder}".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def job(model: Path, **changes: Any) -> SessionJob:
    return SessionJob.model_validate({"model": model, "threads": 1, "seconds": 0.2} | changes)


def test_a_session(device: BrowserDevice, model: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8))
    device.connect()
    asked = job(model, inputs=inputs, input_name="image", anchor=model, min_runs=60, burst_s=0.01)
    report = device.run(asked)
    session, where = report.session, report.environment
    assert len(session.samples_ns) >= 60 and min(session.samples_ns) > 1000
    sums = [sum(turn[place] for turn in session.turns) for place in (0, 1)]
    assert sums == [len(session.samples_ns), len(session.anchor_ns)]
    assert all(min(turn) >= BURST_RUNS for turn in session.turns[:-1])
    assert session.warmup_runs >= WARMUP_RUNS and session.load_ms > 0 and (session.first_run_ms or 0) > 0
    assert session.start is not None and session.end is not None
    assert session.start.at < session.end.at and session.start.waited_ms is None
    if sys.platform == "linux":
        assert session.model_memory_bytes is not None and session.peak_memory_bytes is not None
        assert 2**20 < session.model_memory_bytes < session.peak_memory_bytes < 2**31
    assert (where.agent, where.runtime, where.threads, where.pinned_cpus) == ("browser", "onnxruntime-web", 1, ())
    assert where.provider.startswith("WebAssembly in ") and where.runtime_version == device.facts()["onnxruntime-web"]
    assert report.op_timings == ()


def test_memory_is_unknown_where_the_system_does_not_tell(
    device: BrowserDevice, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Browser, "memory_bytes", lambda page, field: None)
    session = device.run(job(model)).session
    assert (session.peak_memory_bytes, session.model_memory_bytes) == (None, None) and session.samples_ns


@pytest.mark.skipif(len(allowed_cpus()) < 2, reason="needs two CPUs")
def test_more_threads(device: BrowserDevice, tmp_path: Path) -> None:
    report = device.run(job(save_classifier(tmp_path / "large.onnx", side=96), threads=2))
    assert report.environment.threads == 2 and report.session.samples_ns


def test_random_inputs_have_the_shapes_asked_for(device: BrowserDevice, model: Path) -> None:
    assert device.run(job(model, input_shapes={"image": (1, 3, 16, 16)})).session.samples_ns
    with pytest.raises(InputError, match="the model has no input picture; it has image"):
        device.run(job(model, input_shapes={"picture": (1, 3, 16, 16)}))


def test_values_that_do_not_fit_are_told(device: BrowserDevice, model: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((1, 3, 7, 7), np.float32))
    with pytest.raises((InputError, SessionFailure), match="fails to run the file"):
        device.run(job(model, inputs=inputs, input_name="image"))


def test_a_damaged_file_is_its_own_fault(device: BrowserDevice, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(SessionFailure, match=r"onnxruntime-web [\d.]+ cannot load the file") as caught:
        device.run(job(path))
    assert caught.value.kind == "load" and "npm install onnxruntime-web" in caught.value.fix


def test_a_session_ends_at_its_limit(device: BrowserDevice, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "SESSION_GRACE_S", 0.1)
    with pytest.raises(SessionFailure, match="gave no answer") as caught:
        device.run(job(model, seconds=0.01, min_runs=10_000_000))
    assert caught.value.kind == "timeout"


def test_a_browser_that_is_killed(device: BrowserDevice, model: Path, tmp_path: Path) -> None:
    def kill() -> None:
        while not (running := browsers(tmp_path)):
            time.sleep(0.02)
        time.sleep(0.5)
        os.kill(min(running), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SessionFailure, match="the browser ended"):
        device.run(job(model, seconds=5))
    killer.join()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' kernel")
def test_a_browser_ends_with_the_build_that_asked(model: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from edgedistill.devices.browser.device import BrowserDevice\n"
        "from edgedistill.devices.session import SessionJob\n"
        f"BrowserDevice(lock_file=Path({str(tmp_path / 'lock')!r})).run("
        f"SessionJob(model=Path({str(model)!r}), threads=1, seconds=30))\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), found.RUNTIME_VARIABLE: str(web_runtime.onnxruntime_web())}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as build:
        end = time.monotonic() + 60
        while not browsers(tmp_path) and build.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        assert browsers(tmp_path), f"none was started by a process that ended with {build.poll()}"
        build.kill()
    end = time.monotonic() + 10
    while browsers(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert browsers(tmp_path) == []


# -- WebGPU, here the imitation of it that Chromium has for machines without a GPU ---------------------------------


def gpu(tmp_path: Path) -> BrowserDevice:
    return BrowserDevice(lock_file=tmp_path / "lock", gpu=True)


def test_a_session_by_webgpu(
    device: BrowserDevice, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(devices.LIMITS, "fallback_adapter", True)
    own = gpu(tmp_path)
    own.connect()
    report = own.run(job(model, anchor=model))
    assert report.session.samples_ns and report.session.anchor_ns and report.session.turns
    assert report.environment.provider.startswith("WebGPU (google swiftshader) in ")
    assert report.session.peak_memory_bytes is None, "what the GPU holds is not seen"
    assert report.fallbacks is not None and report.fallbacks.elsewhere == {}
    assert own.facts()["gpu"] == "google swiftshader" and "gpu" not in device.facts()


def test_what_the_gpu_leaves_to_the_cpu(device: BrowserDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(devices.LIMITS, "fallback_adapter", True)
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Det", ["r"], ["y"])]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 4, 4]), ("y", [1]))
    ]
    graph = helper.make_graph(nodes, "odd", values[:1], values[1:])
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    told = gpu(tmp_path).run(job(path)).fallbacks
    assert told is not None and told.sentence == "WebGPU computes 1 of 2 operations; elsewhere: Det 1"


def test_the_cast_of_the_bytes_of_an_image_is_no_fallback() -> None:
    found = devices._fallbacks({"operations": 9, "elsewhere": {"Cast": 1}}, "1.23.2")
    assert (found.operations, found.elsewhere) == (9, {})
    assert devices._fallbacks({"operations": 9, "elsewhere": {"Cast": 2, "Det": 1}}, "1.23.2").elsewhere == {
        "Cast": 1,
        "Det": 1,
    }
    assert devices._fallbacks(None, "1.2.3").sentence == "not known here: onnxruntime-web 1.2.3 does not tell"


def test_an_imitation_of_a_gpu_is_not_measured(device: BrowserDevice, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"reaches no GPU: its WebGPU computes on the CPU here \(swiftshader\)"):
        gpu(tmp_path).connect()


# -- what is missing ----------------------------------------------------------------------------------------------


def test_too_few_processors(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match="a session with 4096 threads needs as many CPUs"):
        BrowserDevice(lock_file=tmp_path / "lock").run(job(model, threads=4096))


def test_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(found.BROWSER_VARIABLE, "/no/such/program")
    with pytest.raises(UnreachableError, match="EDGEDISTILL_BROWSER names /no/such/program, which is no program"):
        BrowserDevice().connect()
    monkeypatch.delenv(found.BROWSER_VARIABLE)
    monkeypatch.setattr(found, "PROGRAMS", ())
    with pytest.raises(MissingDependencyError, match="no Chromium or Chrome is installed"):
        found.browser()


def test_the_nearest_node_modules_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(found.RUNTIME_VARIABLE, raising=False)
    inner = tmp_path / "app" / "src"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    with pytest.raises(MissingDependencyError, match="no node_modules here or above has onnxruntime-web") as caught:
        found.runtime()
    assert "npm install onnxruntime-web" in caught.value.fix
    package = tmp_path / "app" / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "1.2.3"}')
    with pytest.raises(MissingDependencyError, match=r"onnxruntime-web 1\.2\.3 in .* has no dist/ort.wasm.min.mjs"):
        found.runtime()
    (package / found.SCRIPTS[False]).write_text("")
    assert found.runtime() == found.Runtime(package.resolve(), "1.2.3")
    with pytest.raises(MissingDependencyError, match=r"has no dist/ort.webgpu.min.mjs"):
        found.runtime(gpu=True)
    (package / "package.json").write_text("{")
    with pytest.raises(MissingDependencyError, match=r"package\.json cannot be read"):
        found.runtime()


# -- what a page is served ----------------------------------------------------------------------------------------


def ask(url: str, content: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=content), timeout=5) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, b"", {}


def test_a_page_is_served_its_own_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "ort.mjs").write_text("runtime")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "model.onnx").write_bytes(b"model")
    heard: list[str] = []
    talk = Conversation({"model": tmp_path / "model.onnx"}, tmp_path / "runtime", {"job": 1}, heard.append)
    with served(talk) as page:
        base = page.removesuffix("index.html")
        status, content, headers = ask(page)
        assert status == 200 and b"agent.js" in content
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert ask(f"{base}files/model")[:2] == (200, b"model")
        assert ask(f"{base}job")[:2] == (200, b'{"job": 1}')
        assert ask(f"{base}runtime/ort.mjs")[:2] == (200, b"runtime")
        for path in ("files/secret", "runtime/../secret", "runtime/%2e%2e/secret", "../secret", "", "runtime/"):
            assert ask(base + path)[0] == 404, path
        root = "/".join(base.split("/")[:3])
        for path in ("/index.html", "/wrong/index.html", "/wrong/files/model", "/"):
            assert ask(root + path)[0] == 404, "without the secret there is nothing"
        assert ask(f"{base}phase/ready", b"")[0] == 200 and heard == ["ready"]
        assert ask(f"{base}elsewhere", b"")[0] == 404 and not talk.done.is_set()
        assert ask(f"{base}answer", b"{}")[0] == 200 and talk.done.is_set() and talk.answer == b"{}"
