"""Bad input ends in words: the right exit code, no traceback, the file that is wrong and what to do about it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgedistill.cli.app import run

REPOSITORY = Path(__file__).parents[2]


def _load_cases() -> ModuleType:
    path = Path(__file__).with_name("bad_input_cases.py")
    spec = importlib.util.spec_from_file_location("bad_input_cases", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


CASES: tuple[Any, ...] = _load_cases().CASES
# One of each place where a build can fail: before anything is read, in the build file, the target, the data, a checkpoint.
AS_PROCESS = (
    "build file missing",
    "--budget 120%",
    "unknown target",
    "several bad images",
    "malicious pickle",
    "device not attached",
)


def check(case: Any, folder: Path, code: int, stderr: str) -> None:
    assert code == case.exit_code, stderr
    assert "Traceback" not in stderr
    assert "bug in edgedistill" not in stderr
    for part in case.says:
        assert part in stderr
    told = [line for line in stderr.splitlines() if line.startswith(("error: ", "fix: ", "  "))]
    # Of a checkpoint that does not fit the headline is the last line, of all else the first.
    assert told[0].startswith("error: ") or told[-1].startswith("error: ")
    rest = [line for line in told if not line.startswith("error: ")]
    # A way out: on a line of its own, in brackets behind a problem, or what the value must be.
    assert any(re.search(r"^fix: |\(.+\)$| must be ", line) for line in rest), stderr
    assert not case.never or not (folder / case.never).exists()


def test_there_are_enough_kinds_and_each_has_a_name() -> None:
    names = [case.kind for case in CASES]
    assert len(names) >= 30
    assert len(set(names)) == len(names)
    assert set(AS_PROCESS) <= set(names)


@pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
def test_bad_input(case: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = case.prepare(tmp_path)
    code = run(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    check(case, tmp_path, code, captured.err)
    assert not (tmp_path / "out" / "build.json").exists()


@pytest.mark.parametrize("case", [c for c in CASES if c.kind in AS_PROCESS], ids=lambda case: case.kind)
def test_bad_input_of_a_process(case: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgedistill", *case.prepare(tmp_path), "--json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests" / "support")))}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    check(case, tmp_path, done.returncode, done.stderr)
    document = json.loads(done.stdout)["error"]
    assert document["exit_code"] == case.exit_code
    assert f"error: {document['message']}" in done.stderr
