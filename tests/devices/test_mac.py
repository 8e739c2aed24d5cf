"""A Mac over a channel. coremltools is the real one, Core ML a stand-in: see support/mac.py."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")

from coremltools.models.utils import load_spec
from mac import mac_python
from pipe_transport import PipeTransport
from ssh_board import SSHD, Board

from edgedistill.base.errors import MissingDependencyError
from edgedistill.cli.app import run
from edgedistill.devices.base import SessionFailure, run_pushed
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.servers import PythonServer
from edgedistill.devices.session import SessionJob
from edgedistill.documents.devices import FILE_VARIABLE
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for

COREML = format_for(Format.COREML)
TARGET = """
name = "my-mac"
title = "A Mac"
runtime = "coreml"
formats = ["coreml"]
precisions = ["fp16"]
transport = "ssh"
accelerator = "Neural Engine or GPU"
how_to_measure = "over SSH"
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return mac_python(tmp_path_factory.mktemp("mac"))


@pytest.fixture
def mac(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteDevice]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with closing(device(python, tmp_path)) as found:
        yield found
    assert list((tmp_path / "there").iterdir()) == []


def device(python: str, tmp_path: Path) -> RemoteDevice:
    (tmp_path / "there").mkdir(exist_ok=True)
    return RemoteDevice(PipeTransport(), PythonServer(python), folder=str(tmp_path / "there"))


def job(model: Path | None = None, **changes: object) -> SessionJob:
    assert COREML.sample is not None
    asked = SessionJob(model=model or COREML.sample, loader=COREML.on_device, threads=1, seconds=0.05, min_runs=20)
    return asked.model_copy(update=changes)


def test_a_session(mac: RemoteDevice, tmp_path: Path) -> None:
    mac.connect()
    pictures = tmp_path / "pictures.npy"
    np.save(pictures, np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8))
    asked = job(inputs=pictures, input_name="image", anchor=COREML.sample, burst_s=0.001, operators=True)
    report = run_pushed(mac, asked)
    assert len(report.session.samples_ns) >= 20 <= len(report.session.anchor_ns) and report.session.turns
    assert min(report.session.samples_ns) >= 200_000, "these are Core ML's own durations"
    assert (report.session.load_ms, report.environment.runtime) == (3.0, "Core ML")
    assert "coremltools" in report.environment.runtime_version
    assert report.fallbacks is not None and report.fallbacks.elsewhere == {} and report.fallbacks.operations
    assert mac.facts("coremltools")["coremltools"] != "absent"


def test_a_package_that_changed_is_sent_again(mac: RemoteDevice, tmp_path: Path) -> None:
    assert COREML.sample is not None
    package = tmp_path / "a 'package'.mlpackage"
    shutil.copytree(COREML.sample, package)
    first = mac.push(package)
    assert mac.push(package) == first and first.suffix == ".mlpackage"
    weights = next(package.rglob("weight.bin"))
    weights.write_bytes(bytes(len(weights.read_bytes())))
    assert mac.push(package) != first
    assert run_pushed(mac, job(package)).session.samples_ns


def damaged(specification: Path) -> None:
    specification.write_bytes(b"nothing")


def of_the_future(specification: Path) -> None:
    spec = load_spec(str(specification))
    spec.specificationVersion = 99
    specification.write_bytes(spec.SerializeToString())


@pytest.mark.parametrize(
    ("change", "reason"), [(damaged, "Error parsing message"), (of_the_future, "newer than this system")]
)
def test_what_cannot_be_loaded_names_the_users_file(
    mac: RemoteDevice, tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    assert COREML.sample is not None
    package = tmp_path / "mine.mlpackage"
    shutil.copytree(COREML.sample, package)
    change(next(package.rglob("model.mlmodel")))
    with pytest.raises(SessionFailure, match=rf"Core ML .* cannot load \S*mine\.mlpackage: .*{reason}") as caught:
        run_pushed(mac, job(package))
    assert caught.value.kind == "load" and "edgedistill-device" not in str(caught.value)


def test_pictures_of_another_size(mac: RemoteDevice, tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", np.zeros((1, 3, 48, 48), np.uint8))
    with pytest.raises(SessionFailure, match="not in allowed set of image sizes"):
        run_pushed(mac, job(inputs=tmp_path / "pictures.npy", input_name="image"))


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_a_machine_that_is_no_mac(tmp_path: Path) -> None:
    with (
        closing(device(mac_python(tmp_path / "linux", core_ml=False), tmp_path)) as board,
        pytest.raises(MissingDependencyError, match="runs on macOS only"),
    ):
        run_pushed(board, job())


# -- over SSH ---------------------------------------------------------------------------------------------------


@pytest.fixture
def board(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    pytest.importorskip("asyncssh")
    if SSHD is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    (tmp_path / "board").mkdir()
    found = Board(tmp_path / "board")
    found.python = python
    (tmp_path / "my-mac.toml").write_text(TARGET)
    (tmp_path / "devices.toml").write_text(f'{found.section("mac")}target = "my-mac"\n')
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "devices.toml"))
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "profiles"))
    monkeypatch.chdir(tmp_path)
    yield found
    found.kill()


def test_a_package_is_profiled_and_the_mac_checked(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--target", "./my-mac.toml", "--json"]
    assert run(["profile", str(COREML.sample), "--sessions", "1", *asked]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["latency"]["kind"] == "measured" and told["fallbacks"]["elsewhere"] == {}
    assert run(["devices", "check", "mac", *asked]) == 0
    steps = {step["name"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    assert steps["coreml"]["ok"] and steps["coreml"]["needed"] and "Core ML" in steps["coreml"]["detail"]
    assert board.left() == []


def test_what_is_left_to_the_cpu_is_refused(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = mac_python(tmp_path / "other", on_cpu=["relu"])
    section = board.section("mac", python=python)
    (tmp_path / "devices.toml").write_text(f'{section}target = "my-mac"\n')
    asked = ["profile", str(COREML.sample), "--sessions", "1", "--target", "./my-mac.toml"]
    assert run(asked) != 0
    said = capsys.readouterr()
    assert "elsewhere: relu 1" in " ".join((said.out + said.err).split())
    (tmp_path / "my-mac.toml").write_text(TARGET + "allow_fallbacks = true\n")
    assert run(asked) == 0
    assert "elsewhere: relu 1" in " ".join(capsys.readouterr().out.split())
