"""A real browser as a target: profile, check, calibrate, and a build that proves its budget there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import web_runtime
from small_models import save_classifier

import edgedistill as api
from edgedistill.base.errors import UnreachableError
from edgedistill.cli.app import run
from edgedistill.devices.browser import device as devices
from edgedistill.devices.browser import found
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.documents.measurements import MeasuredLatency

EDITS = (
    ("[profile]", '[export]\nformats = ["onnx"]\nprecisions = ["fp32"]\n\n[profile]'),
    ('pause = "1ms"', 'pause = "1ms"\nsession = "500ms"\ncompare = "200ms"'),
    ("views = 2", "views = 1"),
)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(found.RUNTIME_VARIABLE, str(web_runtime.onnxruntime_web()))
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "profiles"))
    monkeypatch.setitem(devices.LIMITS, "warmup_s", 0.25)


def test_a_file_is_profiled_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, page = save_classifier(tmp_path / "model.onnx"), tmp_path / "page.html"
    asked = ["profile", str(model), "--target", "browser", "--sessions", "2", "--compare", str(model)]
    assert run([*asked, "--report", str(page), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["latency"]["kind"] == "measured" and result["latency"]["samples"] > 100
    assert result["environment"]["agent"] == "browser" and result["op_timings"] == []
    assert 0.5 < result["comparison"]["p50_ratio"] < 2, "beside itself"
    assert "onnxruntime-web" in page.read_text(encoding="utf-8")


def test_a_check_finds_it_ready() -> None:
    checked = api.check_device("browser")
    assert checked.ready and checked.target == "browser"
    assert [step.name for step in checked.steps][:2] == ["reached", "onnx"]
    (listed,) = [device for device in api.list_devices().devices if device.target == "browser"]
    assert listed.answers and listed.facts["onnxruntime-web"] == checked.facts["onnxruntime-web"]


@pytest.mark.slow
def test_it_is_calibrated() -> None:
    profile = api.calibrate("browser", models=4, families="resnet", resolutions="32", precisions="fp32")
    assert len(profile.rows) == 4 and profile.environment.agent == "browser"


def test_a_build_proves_its_budget_there(loop: Any) -> None:
    built = loop.build(loop.write("browser", "100ms", *EDITS, *loop.few), target="browser")
    assert built.result.status == "met", built.result.verdict
    assert built.result.proof.target == "browser" and built.result.target == "browser"
    assert all(isinstance(artifact.latency, MeasuredLatency) for artifact in built.result.artifacts)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the imitation of a GPU takes seconds for a first run
def test_a_build_proves_its_budget_on_the_gpu(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(devices.LIMITS, "fallback_adapter", True)
    built = loop.build(loop.write("webgpu", "10s", *EDITS, *loop.few), target="browser-webgpu")
    assert built.result.status == "met", built.result.verdict
    (artifact,) = built.result.artifacts
    assert artifact.fallbacks is not None and artifact.fallbacks.by == "WebGPU" and artifact.fallbacks.elsewhere == {}
    assert artifact.peak_memory_bytes is None


def test_without_its_runtime_a_build_says_so(loop: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(found.RUNTIME_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UnreachableError, match="which EDGEDISTILL_ONNXRUNTIME_WEB names, is not onnxruntime-web"):
        api.build(loop.write("no-runtime", "95%", *EDITS, *loop.few), target="browser", require_measured=True)
