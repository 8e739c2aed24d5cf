"""LiteRT and ExecuTorch files measured on this machine: real child processes on small models."""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgedistill.base.errors import InputError, MissingDependencyError, UnsupportedError
from edgedistill.base.progress import silent
from edgedistill.commands import profile as profiling
from edgedistill.devices import turns
from edgedistill.devices.agent.agent_machine import allowed_cpus
from edgedistill.devices.base import SessionFailure
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.session import SessionJob
from edgedistill.devices.stats import ratio
from edgedistill.documents.build_file import ProfileConfig
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.specs import Format, Percentile
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for

SIDE = 12


class Classifier(torch.nn.Module):
    """uint8 images [1, 3, SIDE, SIDE], or [1, SIDE, SIDE, 3] with `last`, to float logits [1, 10]."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last
        self.features = torch.nn.Conv2d(3, 16, 3)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = (image.permute(0, 3, 1, 2) if self.last else image).float() / 255
        return self.head(torch.relu(self.features(image)).mean((2, 3)))


def image(last: bool) -> torch.Tensor:
    return torch.zeros((1, SIDE, SIDE, 3) if last else (1, 3, SIDE, SIDE), dtype=torch.uint8)


def save_litert(path: Path) -> None:
    litert_torch = pytest.importorskip("litert_torch")
    litert_torch.convert(Classifier(last=True).eval(), (image(last=True),)).export(str(path))


def save_executorch(path: Path) -> None:
    pytest.importorskip("executorch.exir")
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(Classifier(last=False).eval(), (image(last=False),))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.write_bytes(lowered.buffer)


@dataclass(frozen=True)
class Model:
    format: Format
    path: Path
    shape: tuple[int, ...]
    runtime: str
    provider: str
    shown: str


@pytest.fixture(scope="module", params=[Format.LITERT, Format.EXECUTORCH])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models")
    if request.param is Format.LITERT:
        save_litert(folder / "model.tflite")
        shape = (SIDE, SIDE, 3)
        shown = f"serving_default_args_0 uint8[1, {SIDE}, {SIDE}, 3]"
        return Model(Format.LITERT, folder / "model.tflite", shape, "LiteRT", "XNNPACK", shown)
    save_executorch(folder / "model.pte")
    shown = f"input uint8[1, 3, {SIDE}, {SIDE}]"
    return Model(Format.EXECUTORCH, folder / "model.pte", (3, SIDE, SIDE), "ExecuTorch", "CPU", shown)


@pytest.fixture
def device(tmp_path: Path) -> LocalDevice:
    return LocalDevice(lock_file=tmp_path / "measuring.lock")


def job(model: Model, /, **changes: Any) -> SessionJob:
    fields = {
        "model": model.path,
        "loader": format_for(model.format).on_device,
        "threads": 1,
        "seconds": 0.2,
        "min_runs": 60,
    }
    return SessionJob.model_validate(fields | changes)


def test_report_is_complete(device: LocalDevice, model: Model, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.random.default_rng(0).integers(0, 256, (5, *model.shape), dtype=np.uint8))
    report = device.run(job(model, inputs=inputs, operators=True))
    session, where = report.session, report.environment
    assert len(session.samples_ns) >= 60
    assert min(session.samples_ns) > 1000
    assert session.warmup_runs >= 3
    assert session.load_ms > 0
    assert session.start is not None and session.start.reference_us is not None
    assert 0 < session.model_memory_bytes < session.peak_memory_bytes < 2**31
    assert (where.runtime, where.provider, where.threads) == (model.runtime, model.provider, 1)
    assert where.runtime_version
    kinds = [timing.op_type for timing in report.op_timings]
    if model.format is Format.EXECUTORCH:
        assert {"Convolution", "mean.out", "Fully Connected"} <= set(kinds)
        assert sum(timing.median_us for timing in report.op_timings) > 0
        assert len({timing.name for timing in report.op_timings}) == len(kinds)
    else:
        assert kinds == []


def test_made_up_inputs_and_several_threads(device: LocalDevice, model: Model) -> None:
    threads = min(2, len(allowed_cpus()))
    report = device.run(job(model, threads=threads))
    assert len(report.session.samples_ns) >= 60
    assert report.environment.threads == threads


def test_two_files_of_the_format_run_in_turn(device: LocalDevice, model: Model) -> None:
    session = device.run(job(model, anchor=model.path, burst_s=0.002)).session
    assert tuple(map(sum, zip(*session.turns, strict=True))) == (len(session.samples_ns), len(session.anchor_ns))
    assert min(len(session.samples_ns), len(session.anchor_ns)) >= 60
    assert 0.5 < ratio(session, Percentile.P50) < 2, "a file is about as fast as itself"


def test_a_broken_model_is_a_failure_of_that_model(device: LocalDevice, model: Model, tmp_path: Path) -> None:
    broken = tmp_path / f"broken{model.path.suffix}"
    whole = model.path.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SessionFailure, match=rf"{model.runtime} .* cannot load .*broken") as caught:
        device.run(job(model, model=broken))
    assert caught.value.kind == "load"


def test_inputs_that_do_not_fit(device: LocalDevice, model: Model, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((2, *model.shape), np.float32))
    with pytest.raises(InputError, match=re.escape(f"the model takes {model.shown}")):
        device.run(job(model, inputs=inputs))
    with pytest.raises(InputError, match="no input picture; it has "):
        device.run(job(model, inputs=inputs, input_name="picture"))


def test_a_size_that_the_file_fixes_cannot_be_asked_for_differently(device: LocalDevice, model: Model) -> None:
    with pytest.raises(InputError, match="ResizeInputTensor" if model.format is Format.LITERT else r"set_inputs\(\)"):
        device.run(job(model, input_shapes={model.shown.partition(" ")[0]: (2, *model.shape)}))


@pytest.mark.parametrize(
    ("format", "package", "fix"),
    [
        (Format.ONNX, "onnxruntime", "pip install onnxruntime"),
        (Format.LITERT, "ai_edge_litert", "pip install ai-edge-litert"),
        (Format.EXECUTORCH, "executorch", "pip install executorch torch"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named_with_what_brings_it(
    device: LocalDevice, tmp_path: Path, format: Format, package: str, fix: str
) -> None:
    """The agent imports a package of another name, which no machine has."""
    loader = format_for(format).on_device
    assert loader is not None
    text = loader.read_text().replace(f"import {package}", "import absent_package")
    absent = tmp_path / loader.name
    absent.write_text(text.replace(f"from {package}", "from absent_package"))
    device.connect()
    fields = {"model": tmp_path / "any", "loader": absent, "threads": 1, "seconds": 1.0}
    with pytest.raises(MissingDependencyError, match="cannot be imported: No module named 'absent_package'") as caught:
        device.run(SessionJob.model_validate(fields))
    assert caught.value.fix == fix


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`profile` with sessions of half a second."""
    config = ProfileConfig.model_validate({"pause": "10ms", "session": "500ms"})
    monkeypatch.setattr(profiling, "ProfileConfig", lambda: config)
    monkeypatch.setattr(turns, "measuring_lock", lambda: tmp_path / "measuring.lock")


@pytest.mark.usefixtures("short")
def test_profile_of_any_file(model: Model) -> None:
    result, _ = profiling.profile_file(model.path, load_target("host"), silent)
    assert (result.format, result.bytes, result.comparison) == (model.format, model.path.stat().st_size, None)
    assert isinstance(result.latency, MeasuredLatency)
    assert result.latency.samples >= 180
    assert (result.latency.sessions, result.latency.relative) == (3, None)
    assert result.environment is not None
    assert result.environment.runtime == model.runtime
    assert bool(result.op_timings) == (model.format is Format.EXECUTORCH)
    assert any("operators are not timed" in note for note in result.notes) == (model.format is Format.LITERT)
    assert any(re.match(r"p95 differs by [\d.]+% from session to session", note) for note in result.notes)


@pytest.mark.usefixtures("short")
def test_profile_of_a_file_beside_another(model: Model, tmp_path: Path) -> None:
    """Beside a copy of itself it is about as fast; of one session nothing is said of how they differ."""
    other = tmp_path / f"other{model.path.suffix}"
    shutil.copy(model.path, other)
    result, _ = profiling.profile_file(
        model.path, load_target("host"), silent, profiling.Asked(sessions=1, compare=other)
    )
    assert result.comparison is not None and result.comparison.other == str(other)
    assert result.comparison.interval is None and not result.comparison.told
    assert isinstance(result.latency, MeasuredLatency)
    assert result.latency.relative is not None
    assert 0.5 < result.latency.relative.p50 < 2
    assert not any("differs by" in note for note in result.notes)


@pytest.mark.usefixtures("short")
def test_a_page_of_any_file(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what changed since the last time, from the second time on."""
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "own"))
    page = tmp_path / "page.html"
    first = profiling.profile(model.path, sessions=1)
    second = profiling.profile(model.path, sessions=2, report=page)
    assert first.since is None and first.roofs is None and second.report == str(page)
    assert second.since is not None and 0.2 < second.since.p50_ratio < 5
    text = page.read_text(encoding="utf-8")
    assert "Since the last profile" in text and second.sha256 in text
    assert second.roofs is None, "neither of these runtimes tells what operators take"


@pytest.mark.parametrize("name", ["page.pdf", "folder.html", "none/page.html"])
def test_a_page_that_cannot_be_written_is_refused_first(model: Model, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=re.escape(name)):
        profiling.profile(model.path, report=tmp_path / name)


def test_two_files_of_different_formats_do_not_run_in_turn(model: Model, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"")
    with pytest.raises(InputError, match=f"other.onnx is no {model.format}: it cannot run in turn with"):
        profiling.profile_file(model.path, load_target("host"), silent, profiling.Asked(compare=other))


def test_other_files_are_refused_with_what_is_taken(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.onnx").mkdir()
    wrong = {"model.xml": "is no model file", "model.onnx": "is not a file", "absent.pte": "does not exist"}
    for name, problem in wrong.items():
        with pytest.raises(InputError, match=problem) as caught:
            profiling.profile_file(tmp_path / name, load_target("host"), silent)
        assert caught.value.fix


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"runtime": Format.TENSORRT}, "no files but a build's own can be measured on Board"),
        ({"runtime": Format.ONNX, "transport": "ssh"}, "model.pte is executorch; only onnx can be measured on Board"),
    ],
)
def test_a_target_that_does_not_measure_the_format(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (tmp_path / "model.pte").write_bytes(b"")
    fields = {"title": "Board", "formats": (Format.ONNX, Format.TENSORRT), "how_to_measure": "ask"} | changes
    with pytest.raises(UnsupportedError, match=problem) as caught:
        profiling.profile_file(tmp_path / "model.pte", load_target("host").model_copy(update=fields), silent)
    assert caught.value.fix == "ask"


def test_what_this_machine_does_not_measure_is_exported_as_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"")
    with pytest.raises(
        UnsupportedError, match=r"model\.engine is tensorrt; only onnx and litert and executorch"
    ) as caught:
        profiling.profile_file(tmp_path / "model.engine", load_target("host"), silent)
    assert caught.value.fix.startswith("export the model as onnx or litert or executorch")


@pytest.mark.skipif(importlib.util.find_spec("executorch") is None, reason="executorch is not installed")
def test_a_program_without_the_method_forward(device: LocalDevice, tmp_path: Path) -> None:
    from executorch.exir import to_edge

    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(1, 4),))
    path = tmp_path / "other.pte"
    path.write_bytes(to_edge({"score": program}).to_executorch().buffer)
    fields = {"model": path, "loader": format_for(Format.EXECUTORCH).on_device, "threads": 1, "seconds": 1.0}
    with pytest.raises(SessionFailure, match="no method forward, but score"):
        device.run(SessionJob.model_validate(fields))
