"""Doctor says what works, by trying it apart, and never falls over what does not."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import sys
from pathlib import Path

import pytest
from packaging import markers

from edgedistill.base import machine
from edgedistill.base.progress import Event, StageAdvanced, StageFinished, StageStarted
from edgedistill.base.store import distribution_of
from edgedistill.commands import doctor, installed
from edgedistill.commands.doctor import diagnose
from edgedistill.commands.installed import try_import
from edgedistill.documents.answers import Diagnosis, DoctorCheck


def named(diagnosis: Diagnosis, kind: str, name: str) -> DoctorCheck:
    return next(check for check in diagnosis.checks if (check.kind, check.name) == (kind, name))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path of child processes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("source", "usable", "detail"),
    [
        ("", True, ""),
        ("import os; os.abort()", False, "killed by signal 6"),
        ("import no_such_module_at_all", False, "No module named 'no_such_module_at_all'"),
        ("raise OSError('libcuda.so.1: cannot open shared object file')", False, "libcuda.so.1: cannot open"),
        ("raise SystemExit(3)", False, "ended with 3"),
        ("import time; time.sleep(30)", False, "did not end within"),
    ],
)
def test_an_import_is_tried_apart(modules: Path, source: str, usable: bool, detail: str) -> None:
    (modules / "vendor_sdk.py").write_text(source)
    ok, said = try_import("vendor_sdk", timeout_s=1.0 if "sleep" in source else 30.0)
    assert ok is usable
    assert detail in said
    assert "vendor_sdk" not in sys.modules


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, tuple[bool, str]]:
    """Imports that end at once; what each says can be set by name."""
    said: dict[str, tuple[bool, str]] = {}
    monkeypatch.setattr(installed, "try_import", lambda name: said.get(name, (True, "")))
    monkeypatch.setattr(doctor, "attached", lambda: (("8A1X", "device"), ("9B2Y", "unauthorized")))
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    return said


def test_what_loads_is_usable_and_what_does_not_says_why(quick: dict[str, tuple[bool, str]]) -> None:
    quick["onnxruntime"] = (False, "its import was killed by signal 11")
    found = diagnose()
    assert not named(found, "format", "onnx").usable
    assert "killed by signal 11" in named(found, "format", "onnx").detail
    assert named(found, "format", "onnx").fix == "pip install --force-reinstall --no-deps onnxruntime"
    assert named(found, "package", "onnx").usable


def test_each_import_is_told_of(quick: dict[str, tuple[bool, str]]) -> None:
    heard: list[Event] = []
    diagnose(heard.append)
    first, *steps, last = heard
    assert isinstance(first, StageStarted) and isinstance(last, StageFinished)
    assert first.total == len(steps) > 0
    assert [event.done for event in steps if isinstance(event, StageAdvanced)] == list(range(1, len(steps) + 1))
    assert {"torch", "onnxruntime"} <= {event.note for event in steps if isinstance(event, StageAdvanced)}


def nothing_is_installed(monkeypatch: pytest.MonkeyPatch, processor: str) -> None:
    """On Linux on such a processor."""
    here = markers.default_environment() | {"sys_platform": "linux", "platform_machine": processor}
    monkeypatch.setattr(markers, "default_environment", here.copy)
    monkeypatch.setattr(installed, "distribution_of", lambda name: None)


def test_what_is_missing_comes_with_its_command(
    quick: dict[str, tuple[bool, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_installed(monkeypatch, "x86_64")
    found = diagnose()
    assert not any(check.usable for check in found.checks if check.kind in ("package", "format"))
    assert named(found, "format", "tensorrt").fix == 'pip install "edgedistill[tensorrt]"'
    assert named(found, "format", "coreml").fix == "pip install --upgrade edgedistill"
    assert named(found, "package", "datasets").fix == 'pip install "edgedistill[huggingface]"'


def test_a_format_of_which_a_part_cannot_be_had_here_gets_no_command_that_brings_the_rest(
    quick: dict[str, tuple[bool, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_installed(monkeypatch, "aarch64")
    found = diagnose()
    assert named(found, "package", "ai-edge-litert").fix == 'pip install "edgedistill[litert]"'
    assert named(found, "package", "litert-torch").fix == ""
    assert named(found, "format", "litert").fix == ""


def test_a_tool_of_another_distribution_has_that_version() -> None:
    assert distribution_of("onnxruntime") == ("onnxruntime", importlib.metadata.version("onnxruntime"))
    owner, version = distribution_of("_pytest") or ("", "")
    assert (owner, version) == ("pytest", importlib.metadata.version("pytest"))
    assert distribution_of("no-such-tool") is None


def test_where_a_vendor_has_no_package_no_command_is_made_up(
    quick: dict[str, tuple[bool, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_installed(monkeypatch, "aarch64")
    found = diagnose()
    for name in ("tensorrt", "coreml"):
        assert named(found, "format", name).fix == ""
        assert "its vendor has no package for" in named(found, "format", name).detail


def test_tools_are_asked(quick: dict[str, tuple[bool, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = {"nvidia-smi": "echo 'NVIDIA GeForce RTX 4060, 8.9, 570.10'", "adb": "exit 0"}
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = diagnose()
    assert named(found, "device", "NVIDIA GPU").detail == "NVIDIA GeForce RTX 4060 (SM 8.9, driver 570.10)"
    assert named(found, "device", "Android").detail == "8A1X"
    assert named(found, "tool", "adb").usable


@pytest.mark.parametrize("body", ["exit 9", "echo 'NVIDIA-SMI has failed'", "sleep 5"])
def test_a_tool_that_fails_is_a_device_that_is_not_there(
    quick: dict[str, tuple[bool, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nexec {body}\n" if body != "exit 9" else "#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(machine, "TOOL_TIMEOUT_S", 0.5)
    assert not named(diagnose(), "device", "NVIDIA GPU").usable


def test_a_cache_that_cannot_be_used_is_said(
    quick: dict[str, tuple[bool, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    assert "EDGEDISTILL_CACHE" in diagnose().cache.problem


def test_the_machine(quick: dict[str, tuple[bool, str]]) -> None:
    machine = diagnose().machine
    assert machine.cpus >= 1
    assert machine.memory_bytes is None or machine.memory_bytes > 2**28
    assert machine.cpu
