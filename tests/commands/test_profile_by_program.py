"""`profile` and `devices check` on a device that has a vendor's program alone, which here prints recorded figures."""

from __future__ import annotations

import platform
import stat
from pathlib import Path
from types import ModuleType

import pytest
from pipe_transport import PipeTransport

import edgedistill as api
from edgedistill.base.errors import ExitCode, InputError, UnreachableError, UnsupportedError
from edgedistill.cli.app import run
from edgedistill.commands import profile_by_program
from edgedistill.devices import attach
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.documents.devices import DEVICE_VARIABLE, FILE_VARIABLE, known_devices
from edgedistill.documents.measurements import UnknownLatency
from edgedistill.documents.specs import Format
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for

HEAD = '#!/bin/sh\nn=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n + 1)) >"$0.n"\n'
PROGRAMS = {
    # The figures of a row differ from run to run: 10.0 ms, 10.1 ms ... and half of that for the second file.
    "benchmark_model": HEAD
    + """case "$1" in *model-1*) u=50;; *) u=100;; esac
echo "Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 1.0, Inference (avg): $((u * (100 + n)))"
""",
    "litert-benchmark": HEAD
    + """case "$1" in *model-1*) u=5;; *) u=10;; esac
echo "BENCHMARK RESULTS"
echo "Inference (avg):       $u.$n ms (200 runs)"; echo "Inference (median):    $u.$n ms"
echo "Inference (p95):       $((u + 1)).$n ms"
""",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    sample = format_for(Format.LITERT).sample
    assert sample is not None
    path = tmp_path / "student.tflite"
    path.write_bytes(sample.read_bytes())
    return path


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the programs and the user's file; a device is this machine's shell."""
    (tmp_path / "kept").mkdir()
    sections = []
    for name, text in PROGRAMS.items():
        path = tmp_path / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        sections.append(f'[{name}]\naddress = "adb://A1"\nprogram = "{path}"\nfolder = "{tmp_path}/kept"\n')
    (tmp_path / "devices.toml").write_text("".join(sections))
    target = f"""name = "board"
title = "A board"
runtime = "litert"
formats = ["litert"]
precisions = ["fp32"]
transport = "adb"
machine = "{platform.machine()}"
how_to_measure = "Attach it."
"""
    (tmp_path / "board.toml").write_text(target)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "devices.toml"))
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "profiles"))
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    monkeypatch.setattr(attach, "transport_to", lambda known: PipeTransport())
    monkeypatch.setattr(profile_by_program.time, "sleep", lambda seconds: None)
    return tmp_path


def test_what_it_tells_and_what_it_does_not(place: Path, model: Path) -> None:
    found = api.profile(model, target=place / "board.toml", device="benchmark_model", sessions=4)
    assert isinstance(found.latency, UnknownLatency) and "tells no single runs" in found.latency.reason
    told = found.by_program
    assert told is not None and told.program == "benchmark_model"
    assert [figures.mean_ms for figures in told.sessions] == pytest.approx([10.0, 10.1, 10.2, 10.3])
    assert told.p50 is told.p95 is told.p99 is None
    assert told.mean is not None and told.mean.value_ms == pytest.approx((10 * 10.1 * 10.2 * 10.3) ** 0.25)
    assert told.mean.interval_ms is not None and told.mean.interval_ms[0] < 10.0 < 10.3 < told.mean.interval_ms[1]
    assert (found.load_ms, found.first_run_ms, found.peak_memory_bytes) == (0.855, 49.06, None)
    assert any("prove no budget" in note for note in found.notes)
    assert list((place / "kept").iterdir()) == []


def test_two_files_run_in_turn(place: Path, model: Path) -> None:
    other = place / "other.tflite"
    other.write_bytes(model.read_bytes())
    options = {"target": place / "board.toml", "device": "litert-benchmark", "sessions": 3}
    found = api.profile(model, compare=other, **options)
    told = found.by_program
    assert told is not None and told.comparison is not None
    # 10.0 and 5.1, 10.2 and 5.3, 10.4 and 5.5: each with the one that followed it.
    assert [f.p50_ms for f in told.comparison.sessions] == pytest.approx([5.1, 5.3, 5.5])
    assert told.comparison.of == "p50"
    assert told.comparison.ratio == pytest.approx((10 / 5.1 * 10.2 / 5.3 * 10.4 / 5.5) ** (1 / 3))
    assert told.comparison.told
    mean = api.profile(model, compare=other, **{**options, "device": "benchmark_model"}).by_program
    assert mean is not None and mean.comparison is not None and mean.comparison.of == "mean"


@pytest.mark.parametrize(
    ("device", "gate", "kept"),
    [
        ("litert-benchmark", "11.15ms@p95", False),
        ("litert-benchmark", "11.25ms@p95", True),
        ("litert-benchmark", "10ms@p50", False),
        ("benchmark_model", "11ms@p50", None),
        ("litert-benchmark", "11ms@p99", None),
    ],
)
def test_a_gate_is_judged_by_what_it_tells(place: Path, model: Path, device: str, gate: str, kept: bool | None) -> None:
    def judged() -> bool | None:
        found = api.profile(model, target=place / "board.toml", device=device, sessions=3, gate=gate)
        return None if found.gate is None else found.gate.kept

    if kept is None:
        with pytest.raises(UnsupportedError, match=f"{device} tells no {gate.partition('@')[2]}"):
            judged()
    else:
        assert judged() is kept


def test_on_the_command_line(place: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["profile", str(model), "--target", str(place / "board.toml"), "--device", "litert-benchmark"]
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "by litert-benchmark" in said and "3 runs of the program, 600 inferences" in said
    assert "p99" in said and "unknown" in said
    assert run([*command, "--gate", "1ms"]) == ExitCode.BUDGET_NOT_MET
    assert run([*command, "--report", str(place / "page.html")]) == ExitCode.BAD_INPUT
    assert "tells no single runs, which the page shows" in capsys.readouterr().err


def test_what_it_cannot_run_is_told_before_anything_is_sent(place: Path, model: Path) -> None:
    onnx = place / "student.onnx"
    onnx.write_bytes(b"x")
    with pytest.raises(UnsupportedError, match="is onnx, and benchmark_model runs litert files"):
        api.profile(onnx, target=place / "board.toml", device="benchmark_model")
    other = place / "other.toml"
    other.write_text((place / "board.toml").read_text().replace(platform.machine(), "riscv64"))
    with pytest.raises(InputError, match="board is riscv64, and pipe is"):
        api.profile(model, target=other, device="benchmark_model")


def test_it_comes_in_by_import(place: Path, realistic: ModuleType, model: Path) -> None:
    """What `profile --json` told of a file of a build serves predictions of later ones."""
    out = place / "out"
    out.mkdir()
    build = realistic.make_result(target="pixel-8")
    (out / "build.json").write_text(build.model_dump_json())
    artifact = build.artifacts[0]
    name = Path(artifact.path).name
    found = api.profile(model, target=place / "board.toml", device="litert-benchmark", sessions=2)
    told = found.model_copy(update={"path": f"/elsewhere/{name}", "sha256": artifact.sha256})
    (place / "told.json").write_text(told.model_dump_json())
    (taken,) = api.import_profiles(place / "told.json", build=out).latencies
    figures = taken.figures
    assert (figures.program, figures.file, figures.runs) == ("litert-benchmark", name, 400)
    assert figures.p50_ms == pytest.approx((10.0 * 10.1) ** 0.5) and figures.p99_ms is None
    (place / "told.json").write_text(told.model_copy(update={"sha256": "0" * 64}).model_dump_json())
    with pytest.raises(InputError, match="is another file than"):
        api.import_profiles(place / "told.json", build=out)


def test_figures_that_are_rounded_away_are_not_compared(place: Path, model: Path) -> None:
    text = HEAD + 'echo "BENCHMARK RESULTS"\n'
    for name, more in (("avg", "n"), ("median", "n + 1")):
        text += f'echo "Inference ({name}): 0.0$((({more}) % 2)) ms"\n'
    (place / "litert-benchmark").write_text(text)
    with pytest.raises(UnsupportedError, match="less time than it prints"):
        api.profile(model, compare=model, target=place / "board.toml", device="litert-benchmark", sessions=1)


def test_a_check_runs_it_and_says_what_it_is_not_for(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = api.check_device("benchmark_model", target=place / "board.toml")
    steps = {step.name: step for step in found.steps}
    assert steps["litert"].ok and "benchmark_model: mean 10" in steps["litert"].detail
    assert not steps["builds"].ok and not steps["builds"].needed
    assert found.ready and found.facts["agent"] == "benchmark_model"


def test_a_build_there_is_refused(place: Path, model: Path) -> None:
    with pytest.raises(UnreachableError, match="tells no single runs") as caught:
        attach.attach(load_target(str(place / "board.toml")), print, "benchmark_model")
    assert "name `python` or our `runner`" in caught.value.fix


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('program = "/bin/ls"', "has the name of no program that is known here"),
        ('program = "/bin/benchmark_model"\npython = "python3"', "takes the place of python and runner"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(place: Path, more: str, said: str) -> None:
    (place / "devices.toml").write_text(f'[phone]\naddress = "adb://A1"\n{more}\n')
    with pytest.raises(InputError) as caught:
        known_devices()
    assert said in str(caught.value)
