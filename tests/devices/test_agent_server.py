"""The server on a device, as a program: what it answers, what it refuses, and what it leaves behind."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import built_runner
import pytest

from edgedistill.base.units import format_bytes
from edgedistill.devices.agent import agent, agent_server
from edgedistill.devices.base import AGENT_FILES
from edgedistill.devices.servers import PythonServer
from edgedistill.devices.turns import measuring_lock
from edgedistill.formats import SHIPPED, format_for

SOURCE = Path(agent_server.__file__).read_bytes()
# As the agent itself does, it ends with the server.
SLEEPS = b"""
import sys, time
from agent_machine import die_with_parent
die_with_parent(int(sys.argv[sys.argv.index("--parent") + 1]))
time.sleep(600)
"""


class Served:
    """A server that runs, spoken to by hand."""

    def __init__(self, folder: Path, kind: str = "python", **variables: str) -> None:
        self.kind = kind
        python = ["/bin/sh", "-c", PythonServer(sys.executable).command(str(folder))]
        self.process = subprocess.Popen(
            python if kind == "python" else [built_runner.runner(), "serve", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | variables,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.source, self.sink = self.process.stdout, self.process.stdin
        if kind == "python":
            self.send(b"%d\n%s" % (len(SOURCE), SOURCE))
        self.hello = self.answer()

    def send(self, data: bytes) -> None:
        self.sink.write(data)
        self.sink.flush()

    def answer(self) -> dict[str, Any]:
        while True:
            found: dict[str, Any] = json.loads(self.source.readline())
            if "alive" not in found:
                return found

    def ask(self, **request: Any) -> dict[str, Any]:
        self.send(json.dumps(request).encode() + b"\n")
        return self.answer()

    def put(self, name: str, data: bytes, sha256: str = "") -> dict[str, Any]:
        told = {"put": name, "bytes": len(data), "sha256": sha256 or hashlib.sha256(data).hexdigest()}
        self.send(json.dumps(told).encode() + b"\n" + data)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.source.close()
        self.sink.close()


@pytest.fixture(params=["python", "runner"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Of either kind: both speak the same protocol."""
    found = Served(tmp_path, request.param, TMPDIR=str(tmp_path))
    yield found
    found.end()


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Served]:
    """The one whose agent is a file that a test replaces."""
    found = Served(tmp_path, TMPDIR=str(tmp_path))
    yield found
    found.end()


def folders(base: Path) -> list[Path]:
    return sorted(base.glob("*edgedistill-device-*"))


def gone(base: Path, within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while folders(base) and time.monotonic() < end:
        time.sleep(0.02)
    return not folders(base)


@pytest.mark.parametrize("path", [*AGENT_FILES, Path(agent_server.__file__)], ids=lambda path: path.name)
def test_what_runs_on_a_device_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("form", [form for form in SHIPPED if format_for(form).on_device], ids=str)
def test_loaders_are_python_3_8(form: Any) -> None:
    path = format_for(form).on_device
    assert path is not None
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_a_file_arrives_whole(served: Served, tmp_path: Path) -> None:
    assert served.hello["edgedistill"] == agent_server.PROTOCOL
    data = os.urandom(3_000_001)
    assert served.put("a1b2.onnx", data) == {"done": "put"}
    (folder,) = folders(tmp_path)
    assert (folder / "a1b2.onnx").read_bytes() == data
    assert served.put("empty", b"") == {"done": "put"}
    assert (folder / "empty").read_bytes() == b""
    assert served.ask(drop="a1b2.onnx") == {"done": "drop"}
    assert not (folder / "a1b2.onnx").exists()
    assert served.ask(drop="a1b2.onnx") == {"done": "drop"}, "one that is not there is gone as well"


def test_bytes_that_changed_on_their_way_are_refused_and_not_kept(served: Served, tmp_path: Path) -> None:
    error = served.put("model.onnx", b"other bytes", sha256=hashlib.sha256(b"these bytes").hexdigest())["error"]
    assert error["kind"] == "hash"
    (folder,) = folders(tmp_path)
    assert [path.name for path in folder.iterdir()] == [".alive"]
    assert served.put("model.onnx", b"these bytes") == {"done": "put"}, "the next request is found behind them"


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a b", "a;b", "", ".alive", "a/b", "x" * 200, "a\nb", 7, None]
)
def test_no_name_leads_out_of_the_folder(served: Served, tmp_path: Path, name: Any) -> None:
    error = served.ask(put=name, bytes=0, sha256=hashlib.sha256(b"").hexdigest())["error"]
    assert error["kind"] == "request"
    assert [path.name for path in folders(tmp_path)[0].iterdir()] == [".alive"]


@pytest.mark.parametrize(
    "line", [b"no json\n", b"[]\n", b"{}\n", b'{"put": "a"}\n', b'{"run": 3, "limit_s": 1}\n', b"\xff\n"]
)
def test_a_malformed_request_is_refused_and_the_next_one_served(served: Served, line: bytes) -> None:
    served.send(line)
    assert served.answer()["error"]["kind"] == "request"
    assert served.put("a", b"1") == {"done": "put"}


def test_a_full_disk_is_told_with_what_is_free(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = folders(tmp_path)
    (folder / "a.part").mkdir()
    error = served.put("a", b"12345")["error"]
    assert error["kind"] == "disk"
    assert "5 bytes cannot be kept" in error["message"] and "bytes are free" in error["message"]
    assert served.put("b", b"12345") == {"done": "put"}


def test_it_leaves_nothing_behind_when_it_is_asked_to_end(served: Served, tmp_path: Path) -> None:
    served.put("a", b"1")
    assert served.ask(end=True) == {"done": "end"}
    assert folders(tmp_path) == []
    assert served.process.wait(10) == 0


def test_it_leaves_nothing_behind_when_the_channel_ends(served: Served, tmp_path: Path) -> None:
    served.put("a", b"1")
    served.sink.close()
    assert served.process.wait(10) == 0
    assert folders(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_it_leaves_nothing_behind_when_it_is_ended(served: Served, tmp_path: Path, number: signal.Signals) -> None:
    served.put("a", b"1")
    served.process.send_signal(number)
    served.process.wait(10)
    assert folders(tmp_path) == []


def test_what_a_killed_one_left_the_next_one_removes(served: Served, tmp_path: Path) -> None:
    served.put("a", b"1")
    other = Served(tmp_path, served.kind)
    assert len(folders(tmp_path)) == 2, "one that lives keeps its own"
    served.end()
    assert len(folders(tmp_path)) == 2
    third = Served(tmp_path, served.kind)
    assert len(folders(tmp_path)) == 2
    for one in (other, third):
        one.end()


def sleeping(served: Served, **job: Any) -> None:
    """Begin a session that never ends."""
    for path in AGENT_FILES:
        served.put(path.name, path.read_bytes())
    served.put("agent.py", SLEEPS)
    served.put("model.onnx", b"")
    served.send(json.dumps({"run": {"model": "model.onnx", "threads": 1} | job, "limit_s": 60}).encode() + b"\n")
    assert served.answer() == {"started": True}
    children = f"/proc/{served.process.pid}/task/{served.process.pid}/children"
    while not Path(children).read_text():
        time.sleep(0.01)


def agents(base: Path) -> list[str]:
    """The agents that run from a folder in `base`: each one's command line, parent, state and what it waits for."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(base) in command and "agent.py" in command:
                state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
                found.append(f"{command}: {state}, parent {parent}, {(process / 'wchan').read_text()}")
    return found


def agents_left(base: Path, within_s: float = 10) -> list[str]:
    """Those that are still there after so long."""
    end = time.monotonic() + within_s
    while (left := agents(base)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


@pytest.mark.parametrize("how", ["channel", "term", "kill"])
def test_a_session_ends_with_its_server(python: Served, tmp_path: Path, how: str) -> None:
    sleeping(python)
    if how == "channel":
        python.sink.close()
    else:
        python.process.send_signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
    python.process.wait(10)
    assert agents_left(tmp_path) == []


def test_a_session_ends_at_its_time_limit(python: Served, tmp_path: Path) -> None:
    sleeping(python)
    python.end()
    other = Served(tmp_path, TMPDIR=str(tmp_path))
    for path in AGENT_FILES:
        other.put(path.name, path.read_bytes())
    other.put("agent.py", SLEEPS)
    other.put("model.onnx", b"")
    began = time.monotonic()
    assert other.ask(run={"model": "model.onnx", "threads": 1}, limit_s=0.5) == {"started": True}
    assert other.answer() == {"timeout": True}
    assert 0.5 <= time.monotonic() - began < 5
    assert agents_left(tmp_path) == []
    assert other.put("a", b"1") == {"done": "put"}, "it serves on"
    other.end()


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("import sys; sys.exit('last words')", {"ended": 1, "said": "last words\n"}),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", {"ended": -9, "said": ""}),
        ("print('{\"answer\": 1}', end='')", {"answer": '{"answer": 1}'}),
    ],
    ids=["fails", "is killed", "answers"],
)
def test_how_a_session_ends(python: Served, program: str, ended: dict[str, Any]) -> None:
    for path in AGENT_FILES:
        python.put(path.name, path.read_bytes())
    python.put("agent.py", program.encode())
    assert python.ask(run={"model": "model.onnx", "threads": 1}, limit_s=20) == {"started": True}
    assert python.answer() == ended


def test_an_agent_that_writes_without_end_is_stopped(python: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in AGENT_FILES:
        python.put(path.name, path.read_bytes())
    python.put("agent.py", b"import sys\nwhile True: sys.stdout.write('x' * 1000000)\n")
    assert python.ask(run={"model": "model.onnx", "threads": 1}, limit_s=60) == {"started": True}
    began = time.monotonic()
    assert python.answer() == {"timeout": True}
    assert time.monotonic() - began < 30, f"{format_bytes(agent_server.ANSWER_BYTES)} are read sooner"


def test_more_threads_than_processors(python: Served) -> None:
    for path in AGENT_FILES:
        python.put(path.name, path.read_bytes())
    error = python.ask(run={"model": "model.onnx", "threads": 10_000}, limit_s=20)["error"]
    assert error["kind"] == "cpus" and "needs as many CPUs" in error["message"]


def test_sessions_wait_for_one_another_and_a_dead_ones_lock_is_free(python: Served, tmp_path: Path) -> None:
    sleeping(python)
    other = Served(tmp_path, TMPDIR=str(tmp_path))
    for path in AGENT_FILES:
        other.put(path.name, path.read_bytes())
    other.put("agent.py", b"print('{}')")
    assert other.ask(run={"model": "model.onnx", "threads": 1}, limit_s=20) == {"waiting": "another measurement"}
    python.process.kill()
    assert other.answer() == {"started": True}
    assert other.answer() == {"answer": "{}\n"}
    other.end()


def test_a_session_gets_its_turn_between_those_of_another_build(served: Served, tmp_path: Path) -> None:
    """The other one takes the lock again at once, each time."""
    stop = threading.Event()

    def measure() -> None:
        while not stop.is_set():
            with (tmp_path / measuring_lock().name).open("a+") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                time.sleep(0.05)

    other = threading.Thread(target=measure)
    other.start()
    try:
        for path in AGENT_FILES:
            served.put(path.name, path.read_bytes())
        began = time.monotonic()
        answer = served.ask(run={"model": "model", "threads": 1, "pinned_cpus": [0]}, limit_s=20)
        assert (served.answer() if answer == {"waiting": "another measurement"} else answer) == {"started": True}
        assert time.monotonic() - began < 2
    finally:
        stop.set()
        other.join()


def test_a_session_waits_for_a_training_on_its_device(python: Served, tmp_path: Path) -> None:
    """A build on the device itself and one over the network take turns: the locks are the same files."""
    training = tmp_path / f"{measuring_lock().name}.training"
    for path in AGENT_FILES:
        python.put(path.name, path.read_bytes())
    python.put("agent.py", b"print('{}')")
    with training.open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        assert python.ask(run={"model": "model.onnx", "threads": 1}, limit_s=20) == {"waiting": "a training"}
    assert python.answer() == {"started": True}


def test_a_temporary_folder_that_is_not_there_leaves_the_lock_in_the_systems(tmp_path: Path) -> None:
    """adbd names one of Android's, wherever it runs."""
    for kind in ("python", "runner"):
        found = Served(tmp_path, kind, TMPDIR=str(tmp_path / "absent"))
        for path in AGENT_FILES:
            found.put(path.name, path.read_bytes())
        lock = Path(f"/tmp/edgedistill-measuring-{os.getuid()}.lock")
        with lock.open("a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            job = {"model": "model", "threads": 1, "pinned_cpus": [0]}
            assert found.ask(run=job, limit_s=20) == {"waiting": "another measurement"}
        assert found.answer() == {"started": True}
        found.end()


def test_silence_ends_it(tmp_path: Path) -> None:
    """Where a network drops, neither side sees the channel end."""
    quick = SOURCE.replace(b"SILENCE_S = 30.0", b"SILENCE_S = 0.5").replace(b"ALIVE_S = 5.0", b"ALIVE_S = 0.1")
    process = subprocess.Popen(
        ["/bin/sh", "-c", PythonServer(sys.executable).command(str(tmp_path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"%d\n%s" % (len(quick), quick))
    process.stdin.flush()
    process.stdout.readline()
    assert len(folders(tmp_path)) == 1
    assert process.wait(20) == 0
    assert folders(tmp_path) == []
    process.stdin.close()
    process.stdout.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    found = Served(tmp_path / "absent")
    assert found.hello["error"]["kind"] == "disk" and "absent" in found.hello["error"]["message"]
    assert found.process.wait(10) == 1
    found.end()


def test_facts_are_those_of_the_machine(python: Served) -> None:
    python.put("agent_machine.py", (Path(agent.__file__).with_name("agent_machine.py")).read_bytes())
    facts = python.ask(facts="numpy")["facts"]
    assert facts["numpy"] != "absent" and facts["machine"]
    assert python.ask(facts="no_such_distribution")["facts"]["no_such_distribution"] == "absent"
    assert shutil.which("sh")
