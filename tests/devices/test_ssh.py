"""SSH, with a real sshd on the loopback interface."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import built_runner
import pytest
from small_models import save_classifier
from ssh_board import SSHD, Board, free_port

from edgedistill.base.errors import ExitCode, UnreachableError
from edgedistill.base.progress import Event, Note
from edgedistill.devices import channel
from edgedistill.devices.attach import remote_device
from edgedistill.devices.base import run_pushed
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.session import SessionJob
from edgedistill.documents.devices import DeviceConfig, KnownDevice
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for

pytest.importorskip("asyncssh")
pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    found = Board(tmp_path_factory.mktemp("board"))
    yield found
    found.kill()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "model.onnx")


def known(board: Board, **changes: Any) -> KnownDevice:
    told = {
        "address": board.address,
        "key": board.key,
        "known_hosts": board.known_hosts,
        "python": board.python,
        "folder": str(board.work),
    }
    return KnownDevice(name="board", config=DeviceConfig.model_validate(told | changes))


class Heard(list[str]):
    """The notes of a device, but for waits: other tests measure on it too."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note) and "waiting for" not in event.text:
            self.append(event.text)


def device_at(board: Board, heard: Any = None, **changes: Any) -> RemoteDevice:
    return remote_device(known(board, **changes), heard if heard is not None else Heard())


def job(model: Path, **changes: Any) -> SessionJob:
    loader = format_for(Format.ONNX).on_device
    return SessionJob.model_validate({"model": model, "loader": loader, "threads": 1, "seconds": 0.1} | changes)


def clean(board: Board, within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while board.left() and time.monotonic() < end:
        time.sleep(0.02)
    return board.left() == []


def test_a_session_over_ssh(board: Board, model: Path) -> None:
    with closing(device_at(board)) as device:
        device.connect()
        report = run_pushed(device, job(model, anchor=model))
        assert len(board.left()) == 1
    assert len(report.session.samples_ns) >= 5 and len(report.session.anchor_ns) >= 5
    assert clean(board)


def test_the_runner_in_the_place_of_python(board: Board, model: Path) -> None:
    program, library = built_runner.runner(), built_runner.library()
    with closing(device_at(board, runner=program, library=library, python="absent")) as device:
        device.connect()
        report = run_pushed(device, job(model, anchor=model))
        assert len(board.left()) == 1, "the program itself is gone by now"
    assert len(report.session.samples_ns) >= 5 and report.environment.runtime == "onnxruntime"
    assert clean(board)


def test_a_key_that_is_not_known_there(board: Board, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Board(tmp_path / "other")
    other.kill()
    with pytest.raises(UnreachableError, match="does not let us in") as caught:
        device_at(board, key=other.key).connect()
    assert f"ssh -p {board.port}" in caught.value.fix and caught.value.exit_code is ExitCode.UNREACHABLE


def test_a_key_file_that_is_none(board: Board, tmp_path: Path) -> None:
    (tmp_path / "nothing").write_text("no key")
    for key in (tmp_path / "nothing", tmp_path / "absent"):
        with pytest.raises(UnreachableError, match="does not"):
            device_at(board, key=key).connect()


def test_a_host_key_that_is_not_known_is_not_accepted(board: Board, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(UnreachableError, match="or it has none") as caught:
        device_at(board, known_hosts=tmp_path / "empty").connect()
    assert "compare the fingerprint" in caught.value.fix


def test_another_host_at_the_address_is_not_talked_to(board: Board, tmp_path: Path) -> None:
    """As where somebody stands between."""
    (tmp_path / "b").mkdir()
    other = Board(tmp_path / "b")
    other.kill()
    line = other.known_hosts.read_text().replace(str(other.port), str(board.port))
    (tmp_path / "hosts").write_text(line)
    with pytest.raises(UnreachableError, match="the host key of board is not the one"):
        device_at(board, known_hosts=tmp_path / "hosts").connect()


def test_nothing_listens(board: Board) -> None:
    port = free_port()
    with pytest.raises(UnreachableError, match="does not answer") as caught:
        device_at(board, address=f"ssh://{board.user}@127.0.0.1:{port}").connect()
    assert f"ssh -p {port}" in caught.value.fix


def test_an_interpreter_that_is_not_there(board: Board) -> None:
    with pytest.raises(UnreachableError, match="nothing of ours runs there: the shell ended") as caught:
        device_at(board, python="/opt/no python; touch x").connect()
    assert "`python` in your devices.toml" in caught.value.fix
    assert not Path("x").exists() and not (Path.home() / "x").exists()


@pytest.mark.parametrize("name", ["with space", "a'b\"c", "$(touch x)", "ünï", "a\\b"])
def test_a_folder_of_any_name(board: Board, model: Path, name: str) -> None:
    folder = board.work / name
    folder.mkdir()
    with closing(device_at(board, folder=str(folder))) as device:
        run_pushed(device, job(model))
        assert len(list(folder.iterdir())) == 1
    end = time.monotonic() + 10
    while list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    folder.rmdir()
    assert clean(board)


def test_through_another_host(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """A jump host is reached as ~/.ssh/config says."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / ".ssh" / "config").write_text(
        f"Host gateway\n  HostName 127.0.0.1\n  Port {board.port}\n  User {board.user}\n  IdentityFile {board.key}\n"
        f"Host 127.0.0.1\n  IdentityFile {board.key}\n"
    )
    hosts = board.known_hosts.read_text()
    (home / ".ssh" / "known_hosts").write_text(hosts)
    monkeypatch.setenv("HOME", str(home))
    heard = Heard()
    device = remote_device(known(board, jump="gateway", key=None, known_hosts=None), heard)
    with closing(device):
        run_pushed(device, job(model))
    assert heard == [] and clean(board)


def test_a_file_of_100_mb(board: Board, tmp_path: Path) -> None:
    big = tmp_path / "big.onnx"
    big.write_bytes(os.urandom(1 << 20) * 100)
    with closing(device_at(board)) as device:
        device.connect()
        name = device.push(big)
        with pytest.raises(Exception, match="cannot load"):
            run_pushed(device, job(big))
        (folder,) = board.left()
        assert (folder / name).stat().st_size == 100 << 20
    assert clean(board)


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_connection_that_is_cut(board: Board, model: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    monkeypatch.setattr(channel, "PAUSES_S", (0.05, 0.1, 0.2))
    heard = Heard()

    def cut() -> None:
        for process in board.sessions():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    with closing(device_at(board, heard)) as device:
        device.connect()
        if moment == "before":
            cut()
        else:
            threading.Timer(0.6, cut).start()
        report = run_pushed(device, job(model, seconds=1.0))
    assert len(report.session.samples_ns) > 100
    assert len(heard) == 1 and "board is lost" in heard[0]
    assert clean(board)


def test_a_daemon_that_does_not_come_back(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PAUSES_S", (0.05, 0.1, 0.2))
    (tmp_path / "board").mkdir()
    own = Board(tmp_path / "board")
    with closing(device_at(own)) as device:
        run_pushed(device, job(model))
        own.kill()
        with pytest.raises(UnreachableError, match="board does not answer any more") as caught:
            run_pushed(device, job(model))
        assert "run the same command again" in caught.value.fix
        own.start()
        run_pushed(device, job(model))
    assert clean(own)
    own.kill()
