"""`edgedistill devices` and `devices check`, with a device that is a program of this machine."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pipe_transport import PipeTransport

import edgedistill as api
from edgedistill.base.errors import InputError, UnreachableError
from edgedistill.cli.app import run
from edgedistill.commands import devices as module
from edgedistill.devices import attach as attaching
from edgedistill.devices.browser.found import BROWSER_VARIABLE, RUNTIME_VARIABLE
from edgedistill.documents.devices import DEVICE_VARIABLE, FILE_VARIABLE, KnownDevice
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for, measured_by_agent
from edgedistill.outputs import schemas

HERE = {"x86_64": "linux-x86-64", "aarch64": "linux-arm64"}.get(platform.machine(), "")


class Named(PipeTransport):
    """As PipeTransport; one called `gone` does not answer."""

    def __init__(self, device: KnownDevice) -> None:
        super().__init__()
        self.name = device.name

    def open(self, command: str) -> Any:
        if self.name == "gone":
            raise UnreachableError("gone does not answer (no route)", fix="plug it in")
        return super().open(command)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file with three devices, all of them programs of this machine."""
    path = tmp_path / "devices.toml"
    (tmp_path / "work").mkdir()
    told = f'address = "ssh://somewhere"\npython = "{sys.executable}"\nfolder = "{tmp_path / "work"}"\n'
    path.write_text(f'[board]\n{told}[other]\n{told}target = "raspberry-pi-5"\n[gone]\n{told}')
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    monkeypatch.setattr(attaching, "transport_to", Named)
    monkeypatch.setattr(module, "_attached", lambda: ())
    monkeypatch.setenv(BROWSER_VARIABLE, str(tmp_path / "none"))
    return path


def test_each_device_is_listed_with_what_it_is_or_why_it_does_not_answer(file: Path) -> None:
    found = api.list_devices()
    assert found.file == str(file)
    assert [(d.name, d.target, d.answers) for d in found.devices] == [
        ("this machine", "host", True),
        ("board", "", True),
        ("other", "raspberry-pi-5", True),
        ("gone", "", False),
    ]
    gone = found.devices[-1]
    assert (gone.problem, gone.fix, gone.facts) == ("gone does not answer (no route)", "plug it in", {})
    assert found.devices[1].facts["machine"] == platform.machine()


def test_a_browser_is_listed_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho Chromium 1.2.3 built on Debian GNU/Linux 13\n")
    program.chmod(0o755)
    monkeypatch.setenv(BROWSER_VARIABLE, str(program))
    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path / "none"))
    browser = api.list_devices().devices[1]
    assert (browser.name, browser.target, browser.answers) == ("Chromium 1.2.3", "browser", False)
    assert "is not onnxruntime-web" in browser.problem and "npm install" in browser.fix
    package = tmp_path / "web"
    (package / "dist").mkdir(parents=True)
    (package / "dist" / "ort.wasm.min.mjs").write_text("")
    (package / "package.json").write_text('{"version": "1.30.0"}')
    monkeypatch.setenv(RUNTIME_VARIABLE, str(package))
    browser = api.list_devices().devices[1]
    assert browser.answers and browser.facts["onnxruntime-web"] == "1.30.0"


def test_phones_that_adb_knows_are_listed_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f'[mine]\naddress = "adb://R5CT"\npython = "{sys.executable}"\n')
    known = (("R5CT", "device"), ("NEW", "device"), ("LOCKED", "unauthorized"))
    monkeypatch.setattr(module, "_attached", lambda: known)
    found = {device.name: device for device in api.list_devices().devices}
    assert list(found) == ["this machine", "mine", "adb://NEW", "adb://LOCKED"]
    assert found["adb://LOCKED"].problem == "adb says: unauthorized" and "unlock it" in found["adb://LOCKED"].fix


def test_a_check_runs_a_model_with_each_runtime(tmp_path: Path) -> None:
    found = api.check_device("board")
    assert found.ready and found.facts["machine"] == platform.machine()
    steps = {step.name: step for step in found.steps}
    for form in set(measured_by_agent()) - {Format.COREML}:
        assert steps[form].ok and "p50" in steps[form].detail, steps[form]
    assert not any(step.needed for step in found.steps if step.name != "reached")
    assert list((tmp_path / "work").iterdir()) == [], "nothing is left behind"


@pytest.mark.skipif(not HERE, reason="no target for this architecture")
def test_a_check_as_a_target_needs_its_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert api.check_device("board", target=HERE).ready
    broken = tmp_path / "sample.onnx"
    broken.write_bytes(b"no model")
    monkeypatch.setattr(type(format_for(Format.ONNX)), "sample", property(lambda self: broken))
    found = api.check_device("board", target=HERE)
    (failed,) = [step for step in found.steps if step.name == Format.ONNX]
    assert not found.ready and not failed.ok and failed.needed
    assert "cannot load" in failed.detail and failed.fix
    assert api.check_device("board").ready, "without a target another runtime is enough"


def test_a_check_as_a_target_of_another_architecture() -> None:
    found = api.check_device("board", target="raspberry-pi-5" if platform.machine() != "aarch64" else "linux-x86-64")
    assert not found.ready
    (failed,) = [step for step in found.steps if step.name == "fits the target"]
    assert platform.machine() in failed.detail


def test_a_target_that_needs_more_than_the_agent_is_never_ready() -> None:
    found = api.check_device("board", target="rtx-4060")
    (failed,) = [step for step in found.steps if step.name == Format.TENSORRT]
    assert not found.ready and failed.detail == "tensorrt is not measured from elsewhere"
    assert failed.fix == "edgedistill targets show rtx-4060 says how it is measured"


def test_a_misspelt_target_is_told(file: Path) -> None:
    file.write_text(file.read_text().replace('"raspberry-pi-5"', '"raspberry-pi5"'))
    found = {device.name: device for device in api.list_devices().devices}
    assert found["other"].answers and found["other"].fix.startswith("did you mean raspberry-pi-5?")
    assert found["board"].fix == ""


def test_a_runner_that_is_not_there_is_told_of_its_device_alone(file: Path) -> None:
    text = file.read_text()
    file.write_text(text + '[broken]\naddress = "ssh://x"\nrunner = "absent"\nlibrary = "absent"\n')
    found = {device.name: device for device in api.list_devices().devices}
    assert found["board"].answers and not found["broken"].answers
    assert "is no file" in found["broken"].problem


def test_a_device_is_checked_as_the_target_of_its_entry() -> None:
    assert api.check_device("other").target == "raspberry-pi-5"


def test_a_device_elsewhere_is_not_this_machine() -> None:
    found = api.check_device("board", target="host")
    assert not found.ready and any("is on this machine" in step.detail for step in found.steps)


def test_this_machine_is_checked_too() -> None:
    assert api.check_device("host").ready
    found = api.check_device("host-litert")
    assert found.ready and (found.address, found.target) == ("", "host-litert")


def test_a_device_that_does_not_answer() -> None:
    found = api.check_device("gone")
    assert not found.ready
    assert [(step.name, step.ok, step.fix) for step in found.steps] == [("reached", False, "plug it in")]


def test_an_unknown_device_or_target() -> None:
    with pytest.raises(InputError, match="no device is called 'bord'"):
        api.check_device("bord")
    with pytest.raises(InputError, match="no device is called 'hots'") as caught:
        api.check_device("hots")
    assert "did you mean host?" in caught.value.fix
    with pytest.raises(InputError, match="unknown target"):
        api.check_device("board", target="nothing")


def test_the_runners_sources_are_written_to_a_new_folder(tmp_path: Path) -> None:
    folder = module.runner_sources(tmp_path / "runner")
    assert (folder / "CMakeLists.txt").is_file() and (folder / "src" / "main.cc").is_file()
    for out in (tmp_path / "runner", tmp_path / "absent" / "runner"):
        with pytest.raises(InputError):
            module.runner_sources(out)


# -- the command line ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "schema"), [(("devices",), "devices"), (("devices", "check", "board"), "devices_check")]
)
def test_json_is_as_its_schema_says(
    arguments: tuple[str, ...], schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schemas.load(schema))
    assert code == 0


def test_the_list_says_what_brings_a_device_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices"]) == 0
    printed = capsys.readouterr().out
    assert "gone: plug it in" in printed and "raspberry-pi-5" in printed


@pytest.mark.parametrize(
    ("name", "code", "verdict"), [("board", 0, "board is ready"), ("gone", 4, "gone is not ready"), ("bord", 2, "")]
)
def test_a_checks_exit_code(name: str, code: int, verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices", "check", name]) == code
    assert verdict in capsys.readouterr().out
