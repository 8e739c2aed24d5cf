"""Vendors' programs run on a device by its shell: the shell's protocol over pipes, with programs that print recorded
output; and LiteRT's real one over a real sshd and a real adbd."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from adb_phone import phone_in
from pipe_transport import PipeChannel, PipeTransport
from ssh_board import SSHD, Board

from edgedistill.base.errors import InputError, MissingDependencyError, TrialFailure, UnreachableError
from edgedistill.base.progress import Event, Note, silent
from edgedistill.devices import channel, program_shell
from edgedistill.devices.attach import program_device
from edgedistill.devices.program_shell import CALLS, ProgramDevice
from edgedistill.documents.devices import DeviceConfig, KnownDevice
from edgedistill.documents.imported import Figures, Program

PRINTS = """#!/bin/sh
for a in "$@"; do case "$a" in --graph=*) f="${a#--graph=}";; esac; done
echo "Graph: [$f]"
echo "count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450"
printf 'Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): %s' 33209.4
echo "$@" >>"$0.called"; sha256sum <"$f" >>"$0.called"
"""
"""Prints the recorded figures of github.com/tensorflow/tensorflow/issues/42507, and says how it was called. Its last line
has no end."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are kept on the device, which has its own lock."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(channel, "PAUSES_S", (0.0, 0.05))
    folder = tmp_path / "device's $folder"
    folder.mkdir()
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / 'my "model"; $(touch pwned).tflite'
    path.write_bytes(b"edgedistill ended 0\n" * 40_000)
    return path


def program(work: Path, text: str = PRINTS, name: str = "benchmark_model") -> Path:
    path = work.parent / "bin of the device" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def device(work: Path, path: Path, heard: list[Event] | None = None) -> ProgramDevice:
    return ProgramDevice(PipeTransport(), str(path), 2, silent if heard is None else heard.append, str(work))


def left(work: Path) -> list[Path]:
    """What is kept there, once a shell has had the time to end."""
    end = time.monotonic() + 10
    while list(work.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    return list(work.iterdir())


def test_runs_are_read_and_nothing_stays(work: Path, model: Path) -> None:
    path = program(work)
    with closing(device(work, path)) as own:
        first, second = own.run(model), own.run(model)
        assert own.facts()["machine"] == os.uname().machine
        assert len(list(work.glob("*/*"))) == 1, "a file is brought once"
    assert first == second
    assert first == Figures(
        program=Program.BENCHMARK_MODEL, file=model.name, mean_ms=33.2094, load_ms=0.855, first_run_ms=49.06, runs=50
    )
    called = path.with_name("benchmark_model.called").read_text().splitlines()
    assert called[0] == "--graph=model-0.tflite --num_threads=2 --num_runs=50 --min_secs=2"
    sums = subprocess.run(["sha256sum", model], capture_output=True, text=True, check=True).stdout.lstrip("\\")
    assert called[1].split()[0] == sums.split()[0]
    assert left(work) == []
    assert not list(work.parent.rglob("pwned"))


def test_a_program_that_is_not_there(work: Path, model: Path) -> None:
    with (
        closing(device(work, work / "benchmark_model")) as own,
        pytest.raises(MissingDependencyError, match=r"(?i)not found|no such file") as caught,
    ):
        own.run(model)
    assert "`program` in your devices.toml" in caught.value.fix
    assert left(work) == []


def test_a_program_that_fails(work: Path, model: Path) -> None:
    path = program(work, "#!/bin/sh\necho 'ERROR: no operator CUSTOM'; exit 1\n")
    with (
        closing(device(work, path)) as own,
        pytest.raises(TrialFailure, match="exit code 1: ERROR: no operator CUSTOM"),
    ):
        own.run(model)
    quiet = program(work, "#!/bin/sh\necho 'hello'\n", "other_benchmark_model")
    with closing(device(work, quiet)) as own, pytest.raises(InputError, match="is no output that is known here"):
        own.run(model)


def test_a_program_that_hangs_is_ended(work: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_shell, "RUN_S", 1.0)
    with closing(device(work, program(work, "#!/bin/sh\nsleep 60\n"))) as own:
        with pytest.raises(TrialFailure, match="was ended after 1 s"):
            own.run(model)
        assert own.facts(), "the shell goes on"
    assert left(work) == []


def test_a_program_that_says_too_much(work: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_shell, "SAID_BYTES", 1 << 16)
    with (
        closing(device(work, program(work, "#!/bin/sh\nwhile :; do echo endless; done\n"))) as own,
        pytest.raises(UnreachableError, match="said more than"),
    ):
        own.run(model)
    assert left(work) == []


KILLS = """#!/bin/sh
[ -e "$0.once" ] || { : >"$0.once"; kill -9 "$(cut -d' ' -f4 "/proc/$PPID/stat")"; exit; }
"""
"""Once, the shell that runs it by way of `timeout`."""


def test_a_connection_that_is_lost_costs_one_run(work: Path, model: Path) -> None:
    heard: list[Event] = []
    path = program(work, PRINTS.replace("#!/bin/sh\n", KILLS))
    with closing(device(work, path, heard)) as own:
        assert own.run(model).runs == 50
        (kept,) = work.iterdir()
        assert kept.name.startswith("edgedistill-program-"), "that of the killed shell is gone"
    assert any(isinstance(event, Note) and "is lost" in event.text for event in heard)
    assert left(work) == []


def test_a_device_without_a_shell_that_answers(work: Path, model: Path) -> None:
    class Silent(PipeTransport):
        def open(self, command: str) -> PipeChannel:
            return super().open("echo 'this account is currently not available'; exit 1")

    own = ProgramDevice(Silent(), "/bin/benchmark_model", 1, silent)
    with closing(own), pytest.raises(UnreachableError, match="this account is currently not available"):
        own.run(model)


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_it_waits_for_its_turn(work: Path, model: Path) -> None:
    heard: list[Event] = []
    lock = work.parent / f"edgedistill-measuring-{os.getuid()}.lock"
    with subprocess.Popen(["flock", lock, "sleep", "1"]):
        time.sleep(0.3)
        with closing(device(work, program(work), heard)) as own:
            assert own.run(model).runs == 50
    assert [event.once for event in heard if isinstance(event, Note)] == ["turn on pipe"]


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_one_that_waits_for_its_turn_ends_with_its_connection(work: Path) -> None:
    with (work.parent / f"edgedistill-measuring-{os.getuid()}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shell = PipeChannel(device(work, program(work))._script)
        shell.send(b"run model-0.tflite -\n")
        said = b""
        while b"turn taken" not in said:
            said += shell.receive(5)
        shell.close()
        assert shell.process.returncode == 1
    assert left(work) == []


def test_a_full_disk_is_told(work: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_shell, "_SHELL", program_shell._SHELL.replace('>"$m"', ">/dev/full"))
    with closing(device(work, program(work))) as own, pytest.raises(UnreachableError, match="has no room for my"):
        own.run(model)
    assert left(work) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/data/local/tmp/android_aarch64_benchmark_model", Program.BENCHMARK_MODEL),
        ("benchmark_model_plus_flex", Program.BENCHMARK_MODEL),
        ("/usr/src/tensorrt/bin/trtexec", Program.TRTEXEC),
        ("/opt/ort/onnxruntime_perf_test", Program.PERF_TEST),
        ("litert-benchmark", Program.LITERT_BENCHMARK),
        ("/opt/benchmark_model/run", None),
        ("kit", None),
    ],
)
def test_a_program_is_known_by_its_name(name: str, expected: Program | None) -> None:
    assert Program.of_path(name) is expected


def test_every_program_of_a_vendor_can_be_called() -> None:
    assert set(CALLS) == set(Program) - {Program.KIT}


# -- LiteRT's program, on real servers ----------------------------------------------------------------------------


@pytest.fixture(params=["ssh", "adb"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[KnownDevice, Path]]:
    """A device with `litert-benchmark`, and where files lie on it."""
    path = Path(sys.executable).with_name("litert-benchmark")
    if not path.exists():
        pytest.skip("needs ai-edge-litert 2.3 or newer")
    if request.param == "adb":
        pytest.importorskip("adbutils")
        with phone_in(tmp_path) as phone:
            config = DeviceConfig(address=phone.address, folder=str(phone.work), program=str(path))
            yield KnownDevice(name="phone", config=config), phone.work
        return
    pytest.importorskip("asyncssh")
    if SSHD is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    board = Board(tmp_path)
    given = {"address": board.address, "key": board.key, "known_hosts": board.known_hosts, "folder": str(board.work)}
    yield KnownDevice(name="board", config=DeviceConfig(program=str(path), **given)), board.work
    board.kill()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that takes longer than the hundredth of a millisecond that the program prints."""
    torch, litert_torch = pytest.importorskip("torch"), pytest.importorskip("litert_torch")
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3))
    path = tmp_path_factory.mktemp("network") / "network.tflite"
    litert_torch.convert(layers.eval(), (torch.zeros(1, 3, 96, 96),)).export(str(path))
    return path


def test_litert_on_a_real_device(known: tuple[KnownDevice, Path], network: Path) -> None:
    place, folder = known
    with closing(program_device(place, silent)) as own:
        found = own.run(network)
    assert (found.program, found.file, found.runs) == (Program.LITERT_BENCHMARK, "network.tflite", 200)
    assert found.p50_ms and found.p95_ms and found.mean_ms and found.load_ms
    assert left(folder) == []
