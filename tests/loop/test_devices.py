"""A real sshd and a real adbd on the loopback interface as devices: profile, calibrate, and a build that proves there."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adb_phone import Phone, phone_in
from small_models import save_classifier
from ssh_board import SSHD, Board

import edgedistill as api
from edgedistill.base.errors import ExitCode, UnreachableError
from edgedistill.base.store import CACHE_VARIABLE
from edgedistill.cli.app import run
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.documents.devices import DEVICE_VARIABLE, FILE_VARIABLE
from edgedistill.documents.measurements import MeasuredLatency

TARGET = {"x86_64": "linux-x86-64", "aarch64": "linux-arm64"}.get(platform.machine(), "")
EDITS = (
    ("[profile]", '[export]\nformats = ["onnx"]\nprecisions = ["fp32"]\n\n[profile]'),
    ('pause = "1ms"', 'pause = "1ms"\nsession = "500ms"\ncompare = "200ms"'),
    ("views = 2", "views = 1"),
)
pytestmark = pytest.mark.skipif(not TARGET, reason="no target for this architecture")


@pytest.fixture(scope="module", params=["ssh", "adb"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board | Phone]:
    """A device, and where files lie on it."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "adb":
        pytest.importorskip("adbutils")
        with phone_in(folder) as phone:
            yield phone
        return
    pytest.importorskip("asyncssh")
    if SSHD is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    board = Board(folder)
    yield board
    board.kill()


@pytest.fixture(autouse=True)
def file(place: Board | Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file with this device alone, which is for the target."""
    path = tmp_path / "devices.toml"
    path.write_text(f'{place.section("device")}target = "{TARGET}"\n')
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "profiles"))
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    return path


def gone(place: Board | Phone) -> bool:
    """Whether nothing of ours is on the device, or soon will be."""
    end = time.monotonic() + 10
    while place.left() and time.monotonic() < end:
        time.sleep(0.02)
    return place.left() == []


def test_a_file_is_profiled_there(place: Board | Phone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_classifier(tmp_path / "model.onnx")
    assert run(["profile", str(model), "--target", TARGET, "--sessions", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["latency"]["kind"] == "measured" and result["latency"]["samples"] > 100
    assert result["op_timings"] and result["environment"]["runtime"] == "onnxruntime"
    assert gone(place)


def test_a_check_finds_it_ready(place: Board | Phone) -> None:
    found = api.check_device("device")
    assert found.ready and found.target == TARGET
    assert gone(place)


@pytest.mark.slow
def test_it_is_calibrated(place: Board | Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both devices are this machine, so that one would find the other's sessions in a cache that they share.
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    profile = api.calibrate(TARGET, models=4, families="resnet", resolutions="32", precisions="fp32")
    assert len(profile.rows) == 4 and profile.facts["id"]
    assert gone(place)


def test_a_build_proves_its_budget_there(loop: Any, place: Board | Phone, file: Path) -> None:
    name = f"device-{type(place).__name__}"
    # Measured anew: sessions of the other device, which is this machine too, lie in the cache.
    built = loop.build(loop.write(name, "100ms", *EDITS, *loop.few), target=TARGET, remeasure=True)
    result = built.result
    assert gone(place)
    assert result.status == "met", result.verdict
    assert result.target == TARGET and result.proof.met and result.proof.target == TARGET
    assert all(isinstance(artifact.latency, MeasuredLatency) for artifact in result.artifacts)
    told = "".join(
        path.read_text(errors="replace") for path in built.out.rglob("*") if path.suffix in (".json", ".html", ".md")
    )
    for secret in (str(place.work), str(file), getattr(place, "address", ""), "known_hosts"):
        assert secret not in told, f"the results tell {secret}"


def test_a_device_that_is_named_has_to_answer(loop: Any, place: Board | Phone) -> None:
    path = loop.write("absent", "95%", *EDITS, *loop.few)
    with pytest.raises(UnreachableError, match="does not answer") as caught:
        api.build(path, target=TARGET, device="ssh://user@127.0.0.1:9")
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert loop.done(path) == []
