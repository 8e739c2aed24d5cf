"""A device behind a channel: what is sent, what is said of a device that misbehaves, and what a lost connection costs."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_target
from pipe_transport import PipeChannel, PipeTransport
from small_models import save_classifier

from edgedistill.base.errors import ExitCode, InputError, MissingDependencyError, UnreachableError
from edgedistill.base.progress import Event, Note
from edgedistill.devices import attach as attaching
from edgedistill.devices import channel, link, remote
from edgedistill.devices.agent import agent_machine, agent_server
from edgedistill.devices.base import SessionFailure, run_pushed
from edgedistill.devices.channel import ChannelLostError
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.servers import PythonServer
from edgedistill.devices.session import SessionJob
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for

LOADER = format_for(Format.ONNX).on_device


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "a model; with 'odd' name\n.onnx")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the pauses in which a board restarts, and with locks of its own."""
    monkeypatch.setattr(channel, "PAUSES_S", (0.0, 0.05, 0.1))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class Device(RemoteDevice):
    """A device that is a program of this machine; `heard` are the notes of it."""

    def __init__(self, base: Path, transport: Any = None) -> None:
        self.base, self.heard = base, [""][:0]
        self.base.mkdir(exist_ok=True)
        self.transport = transport or PipeTransport()
        super().__init__(self.transport, PythonServer(sys.executable), self._hear, folder=str(base))

    def _hear(self, event: Event) -> None:
        if isinstance(event, Note):
            self.heard.append(event.text)

    def kept(self) -> list[str]:
        """Names of the files on it that are ours."""
        return sorted(path.name for path in self.base.glob("*/*") if path.suffix in (".onnx", ".npy"))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with closing(Device(tmp_path / "base")) as found:
        yield found
    assert list((tmp_path / "base").iterdir()) == [], "nothing is left behind"


def job(model: Path, **changes: Any) -> SessionJob:
    return SessionJob.model_validate({"model": model, "loader": LOADER, "threads": 1, "seconds": 0.1} | changes)


# -- sessions -------------------------------------------------------------------------------------------------------


def test_a_session_is_as_one_of_this_machine(device: Device, model: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((4, 3, 16, 16), np.uint8))
    asked = job(model, inputs=inputs, input_name="image", operators=True)
    device.connect()
    there, here = run_pushed(device, asked), run_pushed(LocalDevice(lock_file=tmp_path / "lock"), asked)
    assert there.environment == here.environment
    assert [timing.op_type for timing in there.op_timings] == [timing.op_type for timing in here.op_timings]
    assert min(there.session.samples_ns) > 1000


def test_facts_are_those_of_this_machine(device: Device) -> None:
    found = device.facts("onnxruntime")
    assert found.pop("id") == agent_machine.identity()
    assert found == LocalDevice().facts("onnxruntime")


def test_a_file_is_sent_once_and_no_name_of_a_user_gets_there(device: Device, model: Path) -> None:
    for _ in range(2):
        run_pushed(device, job(model, anchor=model))
    (name,) = device.kept()
    assert name == str(device.push(model)) and len(name) == 45 and name.endswith(".onnx")


def test_a_file_that_changed_is_another(device: Device, model: Path) -> None:
    before = device.push(model)
    save_classifier(model, side=20)
    assert device.push(model) != before


def test_what_it_is_cannot_be_asked_of_a_device_that_is_lost_each_time(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model is at fault there."""

    def lose(self: Any, name: str) -> Any:
        raise ChannelLostError("the connection ended")

    monkeypatch.setattr(link.Link, "facts", lose)
    with pytest.raises(UnreachableError, match="pipe does not answer any more: the connection ended"):
        device.facts("onnxruntime")


def test_old_files_go_when_there_are_many(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [save_classifier(tmp_path / f"{side}.onnx", side=side) for side in (8, 12, 16, 20)]
    monkeypatch.setattr(remote, "KEPT_BYTES", 2 * models[0].stat().st_size + 200)
    for path in models:
        run_pushed(device, job(path))
    # The last one, and two that are merely kept.
    assert set(device.kept()) == {str(device.push(path)) for path in models[1:]}


def test_a_model_that_cannot_be_loaded_is_named_as_the_user_knows_it(device: Device, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(SessionFailure, match="cannot load") as caught:
        run_pushed(device, job(broken))
    assert caught.value.kind == "load"
    assert str(broken) in caught.value.message and agent_server.PREFIX not in str(caught.value)


def test_what_is_not_there_is_not_sent(device: Device, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        device.push(tmp_path / "absent.onnx")


def test_more_threads_than_the_device_has(device: Device, model: Path) -> None:
    with pytest.raises(InputError, match="pipe: a session with 5000 threads needs as many CPUs"):
        run_pushed(device, job(model, threads=5000))


def test_builds_wait_for_each_other_on_the_device(device: Device, model: Path, tmp_path: Path) -> None:
    """The lock is on the device, and its owner's death frees it."""
    holder = tmp_path / "hold.py"
    lock = tmp_path / f"edgedistill-measuring-{os.getuid()}.lock"
    holder.write_text(
        f"import fcntl, time\ns = open({str(lock)!r}, 'a+')\nfcntl.flock(s, 2)\nprint('held', flush=True)\ntime.sleep(600)\n"
    )
    held = PipeChannel(f"exec '{sys.executable}' '{holder}'")
    assert held.receive(20).startswith(b"held")
    device.connect()
    threading.Timer(0.5, held.process.kill).start()
    began = time.monotonic()
    run_pushed(device, job(model))
    assert time.monotonic() - began > 0.4
    assert device.heard == ["waiting for another measurement on pipe"]
    held.close()


# -- lost connections -----------------------------------------------------------------------------------------------


def test_a_session_that_is_lost_is_taken_again(device: Device, model: Path) -> None:
    run_pushed(device, job(model))
    device.transport.channels[-1].process.kill()
    report = run_pushed(device, job(model))
    assert len(report.session.samples_ns) > 1
    assert len(device.transport.channels) == 2
    assert len(device.heard) == 1 and "pipe is lost" in device.heard[0]


def test_a_session_that_was_begun_and_lost_is_counted(device: Device, model: Path) -> None:
    assert run_pushed(device, job(model)).session.retaken == 0
    timer = threading.Timer(1.0, lambda: device.transport.channels[-1].process.kill())
    timer.start()
    report = run_pushed(device, job(model, seconds=3))
    timer.join()
    assert report.session.retaken == 1 and len(device.transport.channels) == 2


def test_a_server_that_was_killed_after_the_last_session_leaves_nothing(device: Device, model: Path) -> None:
    run_pushed(device, job(model))
    device.transport.channels[-1].process.kill()
    device.close()
    assert list(device.base.iterdir()) == [] and device.heard == []


def test_a_closed_device_is_clean_at_once(device: Device, model: Path) -> None:
    run_pushed(device, job(model))
    device.close()
    assert list(device.base.iterdir()) == []


def test_a_device_that_does_not_come_back_is_unreachable(device: Device, model: Path) -> None:
    run_pushed(device, job(model))

    def refuse(command: str) -> Any:
        raise UnreachableError("pipe does not answer", fix="plug it in")

    device.transport.channels[-1].process.terminate()
    device.transport.open = refuse
    with pytest.raises(UnreachableError, match="pipe does not answer any more") as caught:
        run_pushed(device, job(model))
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert "finished sessions are kept" in caught.value.fix
    assert len(device.heard) == len(channel.PAUSES_S)


def test_a_model_that_takes_the_device_down_each_time_is_at_fault(
    device: Device, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = link.Link._next

    def lose(self: Any, *arguments: Any) -> Any:
        answer = begun(self, *arguments)
        if "started" in answer:
            self._channel.process.kill()
        return answer

    monkeypatch.setattr(link.Link, "_next", lose)
    with pytest.raises(SessionFailure, match="failed 4 times") as caught:
        run_pushed(device, job(model))
    assert caught.value.kind == "killed" and model.name in caught.value.message
    device.transport.channels[-1].process.wait()
    device.connect()  # the next server removes what the killed ones left


def test_an_agent_that_is_killed_is_started_again(device: Device, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, killed = link.Link.run, []

    def kill_first(self: Any, *arguments: Any) -> Any:
        return asked(self, *arguments) if killed else killed.append(1) or {"ended": -9, "said": ""}

    monkeypatch.setattr(link.Link, "run", kill_first)
    run_pushed(device, job(model))
    assert len(device.heard) == 1 and "its agent was killed by signal 9" in device.heard[0]


def test_inputs_that_are_gone_by_then_are_sent_again_from_their_newest_copy(
    device: Device, model: Path, tmp_path: Path
) -> None:
    """Each session has its inputs in a temporary folder, with the same content."""
    for number in range(2):
        inputs = tmp_path / f"inputs-{number}.npy"
        np.save(inputs, np.zeros((1, 3, 16, 16), np.uint8))
        if number:
            device.close()
        run_pushed(device, job(model, inputs=inputs, input_name="image"))
        inputs.unlink()


# -- hostile devices ------------------------------------------------------------------------------------------------


class Impatient(PipeChannel):
    """Ends a program that does not end by itself."""

    def close(self) -> None:
        self.process.kill()
        super().close()


class Hostile(PipeTransport):
    """A device whose shell does as it pleases."""

    def __init__(self, script: str) -> None:
        super().__init__()
        self.script = script

    def open(self, command: str) -> PipeChannel:
        self.channels.append(Impatient(self.script))
        return self.channels[-1]


HELLO = """printf '{"edgedistill": 1}\\n'"""
"""As a server begins."""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'python3: not found' >&2; exit 127", "the shell ended; it said: 'python3: not found'"),
        ("exit 0", "the shell ended; it said: nothing"),
        ("yes 'Welcome to this board'", "the shell said: 'Welcome to this board"),
        (r"printf '\033[31mred\033[0m\n'", r"\?\[31mred"),
        (r"""printf '{"edgedistill"\n'; exec sleep 60""", "it said what is no answer"),
        (r"""printf '{"error"\n'; exec sleep 60""", "it said what is no answer"),
        (r"""printf '{"error": 1}\n'; exec sleep 60""", "it refused a request"),
    ],
    ids=["no interpreter", "silent", "endless banner", "terminal codes", "half a hello", "half an error", "odd error"],
)
def test_a_shell_that_runs_nothing_of_ours(tmp_path: Path, script: str, said: str) -> None:
    with (
        closing(Device(tmp_path / "base", Hostile(script))) as device,
        pytest.raises(UnreachableError, match=said) as caught,
    ):
        device.connect()
    assert "devices.toml" in caught.value.fix


def test_a_server_of_another_release_is_named(tmp_path: Path) -> None:
    """As a runner is that the user built some time ago."""
    script = """cat >/dev/null & printf '{"edgedistill": 0}\\n'; exec sleep 60"""
    device = Device(tmp_path / "base", Hostile(script))
    with closing(device), pytest.raises(UnreachableError, match="from the sources of another release: build it again"):
        device.connect()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"{HELLO}; echo no json; exec sleep 60", "it said what is no answer: 'no json'"),
        (f"{HELLO}; echo '[1, 2]'; exec sleep 60", "it said what is no answer"),
        (f"{HELLO}; echo '{{\"done\": 1'; exit", "it said what is no answer|Broken pipe"),
        (f"{HELLO}; echo '{{\"other\": true}}'; exec sleep 60", "it answered something else"),
        (f'{HELLO}; echo \'{{"error": "text"}}\'; exec sleep 60', "it refused a request"),
        (f"{HELLO}; exit", "the connection ended|Broken pipe"),
        (f"{HELLO}; tr '\\0' 'x' </dev/zero", "it said more than .* without the end of a line"),
        (f"{HELLO}; exec sleep 60", "it said nothing for"),
        (f"{HELLO}; yes '{{\"alive\": true}}'", "it gave no answer in time"),
        (f'{HELLO}; yes \'{{"done": "put"}}\'', "it answered something else"),
    ],
    ids=[
        "text",
        "list",
        "half",
        "other",
        "odd error",
        "end",
        "endless line",
        "silence",
        "endless life",
        "endless answers",
    ],
)
def test_a_device_that_says_what_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    monkeypatch.setattr(agent_server, "SILENCE_S", 1.0)
    monkeypatch.setattr(link, "LINE_BYTES", 1 << 20)
    device = Device(tmp_path / "base", Hostile(f"cat >/dev/null & {script}"))
    with closing(device), pytest.raises(UnreachableError, match=said) as caught:
        device.connect()
    assert caught.value.exit_code is ExitCode.UNREACHABLE


class Corrupting(PipeChannel):
    """Changes a byte of the file that follows the request for it, the first `times`."""

    times = 1

    def send(self, data: bytes) -> None:
        if data.startswith(b"\x08") and type(self).times:
            type(self).times -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        super().send(data)


class CorruptingTransport(PipeTransport):
    def open(self, command: str) -> PipeChannel:
        self.channels.append(Corrupting(command))
        return self.channels[-1]


def test_a_file_that_arrives_damaged_is_sent_again(tmp_path: Path, model: Path) -> None:
    Corrupting.times = 1
    with closing(Device(tmp_path / "base", CorruptingTransport())) as device:
        run_pushed(device, job(model))
    assert len(device.heard) == 1 and "a file arrived damaged" in device.heard[0]


def test_a_path_that_damages_each_file_is_no_device(tmp_path: Path, model: Path) -> None:
    Corrupting.times = 99
    device = Device(tmp_path / "base", CorruptingTransport())
    with closing(device), pytest.raises(UnreachableError, match="a file arrived damaged"):
        run_pushed(device, job(model))


class Lying(Device):
    """Its agent is a program that answers as it pleases."""

    answer = ""

    def _linked(self) -> link.Link:
        found = super()._linked()
        agent = self.base.parent / "agent.py"
        agent.write_text(f"print({self.answer!r}, end='')")
        if "lied" not in found.present:
            found.drop("agent.py")
            found.put(agent, "agent.py")
            found.present["lied"] = 0
        return found


@pytest.mark.parametrize(
    "answer",
    ["no json", "[]", "{}", '{"session": {}}', json.dumps({"error": "odd"}), json.dumps({"error": {"kind": "load"}})],
)
def test_an_agent_that_gives_no_report(tmp_path: Path, model: Path, answer: str) -> None:
    with closing(Lying(tmp_path / "base")) as device:
        device.answer = answer
        with pytest.raises(UnreachableError, match="its agent gave no report"):
            run_pushed(device, job(model))


def test_a_report_without_a_sample_is_none(tmp_path: Path, model: Path) -> None:
    with closing(Device(tmp_path / "honest")) as honest:
        document = run_pushed(honest, job(model)).model_dump(mode="json")
    document["session"]["samples_ns"] = []
    with closing(Lying(tmp_path / "base")) as device:
        device.answer = json.dumps(document)
        with pytest.raises(UnreachableError, match="its agent gave no report"):
            run_pushed(device, job(model))


def test_a_full_disk_is_no_fault_of_the_model(tmp_path: Path, model: Path) -> None:
    with closing(Device(tmp_path / "base")) as device:
        device.connect()
        (folder,) = (tmp_path / "base").iterdir()
        (folder / f"{device.push(model)}.part").mkdir()
        with pytest.raises(UnreachableError, match=r"pipe has no room: .* bytes are free") as caught:
            run_pushed(device, job(model))
    assert "`folder` in your devices.toml" in caught.value.fix


def test_a_device_without_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.Link, "facts", lambda self, name: {"numpy": "absent"})
    with (
        closing(Device(tmp_path / "base")) as device,
        pytest.raises(MissingDependencyError, match="lacks numpy") as caught,
    ):
        device.connect()
    assert "pip install numpy" in caught.value.fix


def test_a_channel_that_is_closed_says_so(tmp_path: Path) -> None:
    with closing(Device(tmp_path / "base")) as device:
        device.connect()
        channel = device.transport.channels[-1]
    with pytest.raises(ChannelLostError):
        channel.send(b"x")


def test_a_target_of_another_architecture(tmp_path: Path) -> None:
    with closing(Device(tmp_path / "base")) as device:
        device.connect()
        attaching.require_fitting(make_target(transport="ssh", machine=device.facts()["machine"].upper()), device)
        with pytest.raises(InputError, match="board is riscv64, and pipe is"):
            attaching.require_fitting(make_target(name="board", transport="ssh", machine="riscv64"), device)
        with pytest.raises(InputError, match="is on this machine"):
            attaching.require_fitting(make_target(transport="local"), device)
