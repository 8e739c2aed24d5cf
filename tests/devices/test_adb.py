"""ADB, with Debian's real adbd on the loopback interface."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import built_runner
import pytest
from adb_phone import Phone, phone_in
from small_models import save_classifier
from ssh_board import free_port

from edgedistill.base.errors import UnreachableError
from edgedistill.base.progress import Event, Note
from edgedistill.devices import channel
from edgedistill.devices.adb import attached
from edgedistill.devices.attach import remote_device
from edgedistill.devices.base import SessionFailure, run_pushed
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.session import SessionJob
from edgedistill.documents.devices import DeviceConfig, KnownDevice
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for

pytest.importorskip("adbutils")


@pytest.mark.parametrize("program", ["exit 1", "echo '* failed to start daemon *' >&2; exit 1", "exec sleep 0.1"])
def test_an_adb_that_starts_no_server(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adb").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "adb").chmod(0o755)
    monkeypatch.setenv("ADBUTILS_ADB_PATH", str(tmp_path / "adb"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    assert attached() == ()
    with pytest.raises(UnreachableError, match="does not answer"):
        remote_device(KnownDevice.at("adb://R5CT"), lambda event: None).connect()


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with phone_in(tmp_path_factory.mktemp("phone")) as found:
        yield found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "model.onnx")


def device_at(phone: Phone, heard: list[str], **changes: Any) -> RemoteDevice:
    def listen(event: Event) -> None:
        if isinstance(event, Note) and "waiting for" not in event.text:  # other tests measure on it too
            heard.append(event.text)

    told = {"address": phone.address, "python": phone.python, "folder": str(phone.work)} | changes
    return remote_device(KnownDevice(name="phone", config=DeviceConfig.model_validate(told)), listen)


def job(model: Path, **changes: Any) -> SessionJob:
    loader = format_for(Format.ONNX).on_device
    return SessionJob.model_validate({"model": model, "loader": loader, "threads": 1, "seconds": 0.1} | changes)


def clean(phone: Phone, within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while phone.left() and time.monotonic() < end:
        time.sleep(0.02)
    return phone.left() == []


def test_a_session_over_adb(phone: Phone, model: Path) -> None:
    heard: list[str] = []
    with closing(device_at(phone, heard)) as device:
        device.connect()
        report = run_pushed(device, job(model, anchor=model))
        assert len(phone.left()) == 1
        assert dict(attached())["127.0.0.1:5555"] == "device"
    assert len(report.session.samples_ns) >= 5 and len(report.session.anchor_ns) >= 5
    assert heard == [] and clean(phone)


def test_the_runner_in_the_place_of_python(phone: Phone, model: Path) -> None:
    program, library = built_runner.runner(), built_runner.library()
    with closing(device_at(phone, [], runner=program, library=library, python="absent")) as device:
        device.connect()
        report = run_pushed(device, job(model, anchor=model))
        assert len(phone.left()) == 1, "the program itself is gone by now"
    assert len(report.session.samples_ns) >= 5 and report.environment.runtime == "onnxruntime"
    assert clean(phone)


def test_bytes_of_every_value_arrive(phone: Phone, tmp_path: Path) -> None:
    """A terminal on the way would change some of them."""
    odd = tmp_path / "odd.onnx"
    odd.write_bytes(bytes(range(256)) * 4096 + b"\r\n\n\r\x04\x03\x1a" + os.urandom(1 << 20))
    with closing(device_at(phone, [])) as device:
        name = device.push(odd)
        with pytest.raises(SessionFailure, match="cannot load"):
            run_pushed(device, job(odd))
        assert (phone.left()[0] / name).read_bytes() == odd.read_bytes()


def test_a_serial_that_is_not_attached(phone: Phone) -> None:
    for address, fix in (
        ("adb://nothing", "adb -s nothing shell true"),
        ("adb://127.0.0.1:9", "adb connect 127.0.0.1:9"),
    ):
        with pytest.raises(UnreachableError, match="phone does not answer") as caught:
            device_at(phone, [], address=address).connect()
        assert fix in caught.value.fix


def test_an_interpreter_that_is_not_there(phone: Phone) -> None:
    with pytest.raises(UnreachableError, match="nothing of ours runs there"):
        device_at(phone, [], python="/system/bin/python3").connect()


def test_a_device_that_restarts_in_a_session(phone: Phone, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PAUSES_S", (0.5, 1.0, 2.0))
    heard: list[str] = []

    def restart() -> None:
        phone.kill()
        phone.start()

    with closing(device_at(phone, heard)) as device:
        device.connect()
        threading.Timer(0.6, restart).start()
        report = run_pushed(device, job(model, seconds=1.0))
    assert len(report.session.samples_ns) > 100
    assert heard and all("phone is lost" in text for text in heard)
    assert clean(phone)


@pytest.mark.parametrize("kind", ["python", "runner"])
def test_it_is_clean_as_soon_as_the_daemon_is_gone(phone: Phone, kind: str) -> None:
    """Not only after half a minute of silence."""
    changes = {"runner": built_runner.runner(), "library": built_runner.library()} if kind == "runner" else {}
    with closing(device_at(phone, [], **changes)) as device:
        device.connect()
        assert len(phone.left()) == 1
        phone.kill()
        assert clean(phone, within_s=10)
    phone.start()


def test_a_device_that_is_gone(phone: Phone, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PAUSES_S", (0.05, 0.1, 0.2))
    with closing(device_at(phone, [])) as device:
        device.connect()
        phone.kill()
        with pytest.raises(UnreachableError, match="phone does not answer any more"):
            run_pushed(device, job(model))
        phone.start()
        run_pushed(device, job(model))
    assert clean(phone)
