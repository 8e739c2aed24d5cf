"""The agent and the server on interpreters as old as boards and Macs have them: Python 3.8 to 3.10, where there is one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgedistill.devices.agent import agent_server
from edgedistill.devices.base import AGENT_FILES
from edgedistill.devices.servers import PythonServer
from edgedistill.devices.session import SessionReport
from edgedistill.formats import SHIPPED, format_for

OLDER = ("3.8", "3.9", "3.10")
LOADER = """
TITLE, INSTALL, TRACES = "Nothing", "", False
def describe(): return {"runtime": "none", "runtime_version": "1", "provider": "CPU"}
def errors(): return (RuntimeError,)
def kind_of(error, stage): return stage
class Model:
    inputs, details = [], {}
    def feed(self, values): return values
    def run(self, feed): return sum(range(1000))
def load(path, threads, shapes): return Model()
"""
NUMPY = "class random:\n    default_rng = staticmethod(lambda seed: None)\n"
"""All of numpy that a session of a model without inputs uses: an interpreter that is found here may lack the real one."""


def interpreter(version: str) -> str:
    """One of that version, on the path or pyenv's. Skips where there is none."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for found in [*map(str, kept), shutil.which(f"python{version}")]:
        if found and subprocess.run([found, "-V"], capture_output=True, check=False).returncode == 0:
            return found
    pytest.skip(f"there is no Python {version}")


@pytest.fixture(params=OLDER)
def python(request: pytest.FixtureRequest) -> str:
    return interpreter(request.param)


def test_a_session(python: str, tmp_path: Path) -> None:
    for path in AGENT_FILES:
        shutil.copy(path, tmp_path)
    (tmp_path / "numpy.py").write_text(NUMPY)
    (tmp_path / "loader.py").write_text(LOADER)
    job = {"model": "m", "loader": str(tmp_path / "loader.py"), "threads": 1, "seconds": 0.05, "min_runs": 20}
    job |= {"anchor": "a", "burst_s": 0.001, "pinned_cpus": [min(os.sched_getaffinity(0))], "operators": True}
    done = subprocess.run(
        [python, "-E", str(tmp_path / "agent.py"), "--parent", str(os.getpid())],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = SessionReport.model_validate_json(done.stdout)
    assert len(report.session.samples_ns) >= 20 and report.session.turns
    assert report.environment.os and report.environment.cpu


def test_the_server_tells_what_the_machine_is(python: str, tmp_path: Path) -> None:
    asked = PythonServer(python).payload()
    for name in ("agent_machine", "agent_heat"):
        (path,) = [path for path in AGENT_FILES if path.stem == name]
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        asked += json.dumps({"put": path.name, "bytes": len(data), "sha256": digest}).encode() + b"\n" + data
    asked += b'{"facts": "numpy"}\n{"end": true}\n'
    command = PythonServer(python).command(str(tmp_path))
    done = subprocess.run(["/bin/sh", "-c", command], input=asked, capture_output=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0]["edgedistill"] == agent_server.PROTOCOL
    (facts,) = [answer["facts"] for answer in answers if "facts" in answer]
    assert facts["system"] and facts["machine"] and facts["agent"] == "python"
    assert list(tmp_path.iterdir()) == []


def test_what_loads_a_file_is_read(python: str) -> None:
    """Only the import: the runtimes are not there."""
    for form in SHIPPED:
        path = format_for(form).on_device
        if path is not None:
            code = f"import runpy; assert runpy.run_path({str(path)!r})['TITLE']"
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, re.sub(r"\s+", " ", done.stderr)
