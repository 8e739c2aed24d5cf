"""A finished build and a finished profile, made up, and a way to run one command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import edgedistill as api
from edgedistill.cli.app import run
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.results import BuildResult

REPOSITORY = Path(__file__).parents[2]
Command = Callable[..., int]


@pytest.fixture
def result(realistic: ModuleType) -> BuildResult:
    """A build that met its budget."""
    made: BuildResult = realistic.make_result()
    return made


@pytest.fixture
def profiled(realistic: ModuleType) -> ProfileResult:
    """A measured ONNX file."""
    profile = realistic.make_profile("0" * 64, 0.2)
    return ProfileResult(
        path="model.onnx",
        format="onnx",
        sha256="0" * 64,
        bytes=318_000,
        latency={"kind": "measured", "p50_ms": 0.2, "p95_ms": 0.21, "p99_ms": 0.25, "samples": 3000, "device": "a CPU"},
        peak_memory_bytes=61_300_000,
        load_ms=18.4,
        first_run_ms=2.6,
        op_timings=profile.op_timings,
        environment=profile.environment,
        notes=("p95 differs by 2.1% from session to session",),
    )


@pytest.fixture
def command() -> Command:
    """Runs one command line in this process and returns its exit code; output goes where capsys sees it."""

    def call(*arguments: object) -> int:
        return run([str(argument) for argument in arguments])

    return call


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, result: BuildResult) -> dict[str, Any]:
    """Puts a loop that ends at once with `result` in the place of the real one; what it was called with."""
    called: dict[str, Any] = {}

    def build(path: Path, **options: Any) -> BuildResult:
        called.update(options, path=path)
        found: BuildResult = called.get("result", result)
        return found

    monkeypatch.setattr(api, "build_all", build)
    return called


@pytest.fixture
def process() -> Callable[..., subprocess.Popen[str]]:
    """Starts `edgedistill` as a process of its own, after `before` (Python)."""

    def start(*arguments: str, before: str = "", **options: Any) -> subprocess.Popen[str]:
        code = f"{before}\nfrom edgedistill.cli.app import main\nmain()"
        environment = (
            os.environ
            | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests" / "support")))}
            | options.pop("env", {})
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, text=True, env=environment, **pipes)

    return start
