"""Addresses and the user's file of devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedistill.base.errors import InputError
from edgedistill.documents.devices import (
    DEVICE_VARIABLE,
    FILE_VARIABLE,
    Address,
    KnownDevice,
    device_for,
    device_named,
    devices_file,
    known_devices,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ssh://board", ("ssh", "board", None, "")),
        ("ssh://pi@board.local", ("ssh", "board.local", None, "pi")),
        ("ssh://pi@192.168.1.7:2222", ("ssh", "192.168.1.7", 2222, "pi")),
        ("ssh://pi@[fe80::1]:22", ("ssh", "fe80::1", 22, "pi")),
        ("adb://R5CT10ABcDe", ("adb", "R5CT10ABcDe", None, "")),
        ("adb://emulator-5554", ("adb", "emulator-5554", None, "")),
        ("adb://192.168.1.7:5555", ("adb", "192.168.1.7", 5555, "")),
    ],
)
def test_an_address_is_read_and_written(text: str, parts: tuple[str, str, int | None, str]) -> None:
    address = Address.parse(text)
    assert (address.scheme, address.host, address.port, address.user) == parts
    assert str(address) == text


def test_a_serial_is_as_adb_has_it() -> None:
    assert Address.parse("adb://R5CT10ABcDe").serial == "R5CT10ABcDe"
    assert Address.parse("adb://127.0.0.1:5555").serial == "127.0.0.1:5555"


@pytest.mark.parametrize(
    "text",
    [
        "board",
        "http://board",
        "ssh://",
        "ssh://board/path",
        "ssh://board:port",
        "ssh://board:70000",
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "ssh://board;reboot",
        "ssh://$(reboot)",
        "ssh://-l@board",
        "adb://user@serial",
        "adb://",
        "adb://serial?x=1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no address of a device") as caught:
        Address.parse(text)
    assert "ssh://pi@board.local" in caught.value.fix


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="holds no password") as caught:
        Address.parse("ssh://pi:raspberry@board")
    assert "raspberry" not in str(caught.value)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, empty as yet."""
    path = tmp_path / "devices.toml"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    return path


def test_where_there_is_no_file_there_are_no_devices(file: Path) -> None:
    assert devices_file() == file
    assert known_devices() == ()
    assert device_for("raspberry-pi-5") is None


def test_the_file(file: Path) -> None:
    file.write_text(
        '[board]\naddress = "ssh://pi@board"\ntarget = "raspberry-pi-5"\nkey = "~/.ssh/board"\njump = "gateway"\n'
        'python = "/opt/venv/bin/python"\nfolder = "/mnt/fast"\n\n[phone]\naddress = "adb://R5CT"\n'
    )
    board, phone = known_devices()
    assert (board.name, str(board.address), board.config.key) == ("board", "ssh://pi@board", Path.home() / ".ssh/board")
    assert (phone.name, phone.address.serial, phone.config.python) == ("phone", "R5CT", "python3")
    assert device_for("raspberry-pi-5") == board
    assert device_for("pixel-6") is None
    assert device_for("pixel-6", "phone") == phone
    assert device_for("raspberry-pi-5", "adb://OTHER") == KnownDevice.at("adb://OTHER"), "what is asked for comes first"


def test_files_are_beside_the_file(file: Path) -> None:
    file.write_text('[phone]\naddress = "adb://R5CT"\nrunner = "build/runner"\nlibrary = "/opt/lib.so"\n')
    (phone,) = known_devices()
    assert (phone.config.runner, phone.config.library) == (file.parent / "build/runner", Path("/opt/lib.so"))


def test_the_environment_names_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[board]\naddress = "ssh://board"\ntarget = "raspberry-pi-5"\n[other]\naddress = "ssh://other"\n')
    monkeypatch.setenv(DEVICE_VARIABLE, "other")
    found, asked = device_for("raspberry-pi-5"), device_for("raspberry-pi-5", "board")
    assert found is not None and asked is not None
    assert (found.name, asked.name) == ("other", "board")


def test_an_unknown_name_has_the_nearest(file: Path) -> None:
    file.write_text('[board]\naddress = "ssh://board"\n')
    with pytest.raises(InputError, match="no device is called 'bord'") as caught:
        device_named("bord")
    assert "did you mean board?" in caught.value.fix


def test_two_devices_of_one_target_are_not_guessed_between(file: Path) -> None:
    file.write_text(
        '[one]\naddress = "ssh://one"\ntarget = "pixel-6"\n[two]\naddress = "ssh://two"\ntarget = "pixel-6"\n'
    )
    with pytest.raises(InputError, match="are for pixel-6: one, two") as caught:
        device_for("pixel-6")
    assert caught.value.fix == "choose one: --device one"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[board]\naddress = "board"\n', 2, "is no address of a device"),
        ('[board]\naddress = "ssh://pi:secret@board"\n', 2, "holds no password"),
        ('[board]\ntarget = "pixel-6"\n', 1, "address"),
        ('[board]\naddress = "ssh://board"\n\npasword = "x"\n', 4, "pasword"),
        ('[board]\naddress = "ssh://board"\npython = ""\n', 3, "python"),
        ('[board]\naddress = "adb://board"\nrunner = "x"\n', 1, "library, or litert, is missing"),
        ("[board\n", 1, ""),
        ('board = "ssh://board"\n', 1, "section"),
    ],
    ids=["address", "password", "no address", "unknown key", "empty", "half a runner", "TOML", "no section"],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(file: Path, text: str, line: int, what: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        known_devices()
    (problem,) = caught.value.problems
    assert problem.where == f"{file}:{line}"
    assert what in f"{problem.what} {problem.fix}"
    assert "secret" not in str(caught.value)
