"""Faults at moments of a proof on a device: a real sshd and a real adbd on the loopback interface.

    python benchmarks/device_faults.py --moments 20 [--kinds ssh-agent,adb-daemon] [--json FILE]

Needs sshd, adb and adbd, and root for `ssh-network`, which runs in a network namespace of its own. A proof is that of a
small file on the device, in sessions of half a second. It is disturbed at so many moments, spread evenly over the time that
an undisturbed one takes, each time in a proof of its own:

- `connection`: what serves the connection is killed; the daemon stays.
- `daemon`: daemon and connections are killed, and the daemon starts again two seconds later.
- `down`: the same, but it starts again only when the proof has ended.
- `server`, `agent`: our own processes on the device are killed with signal 9.
- `network`: nothing gets through until the proof has ended.

Checked each time: the proof finishes, or ends with exit code 4, and then the same command finishes it from where it stopped;
as many sessions count as in the undisturbed one, each once; the device is clean at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from adb_phone import Phone, phone_in
from ssh_board import Board

from edgedistill.base.errors import ExitCode, UnreachableError
from edgedistill.base.progress import Event, Note, StageFinished
from edgedistill.base.store import Store
from edgedistill.commands.calibrate_target import open_calibration
from edgedistill.commands.requests import CalibrationRequest
from edgedistill.documents.build_file import ProfileConfig
from edgedistill.documents.devices import FILE_VARIABLE
from edgedistill.documents.specs import Budget, Percentile
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.bench import Bench
from edgedistill.pipeline.measure import anchor_file, anchor_source, prove

Place = Board | Phone

BUDGET = Budget(latency_ms=1000, percentile=Percentile.P95)
SETTINGS = ProfileConfig.model_validate({"session": "500ms", "pause": "1ms"})
TARGET = "linux-x86-64" if os.uname().machine == "x86_64" else "linux-arm64"
CLEAN_S = 60.0
"""The device notices a network that is gone after half a minute."""
KINDS = (
    *(f"ssh-{what}" for what in ("connection", "daemon", "down", "server", "agent", "network")),
    *(f"adb-{what}" for what in ("daemon", "down", "server", "agent")),
)


def processes(place: Place, what: str) -> list[int]:
    """Ours on the device: `agent`, or the `server`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            is_agent = any(word.endswith("agent.py") for word in words)
            is_server = str(place.work) in words and "-c" in words
            if (is_agent and what == "agent" and str(place.work) in " ".join(words)) or (
                is_server and what == "server"
            ):
                found.append(int(path.parent.name))
    return found


def kill(numbers: list[int]) -> None:
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def loopback(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def disturb(place: Place, kind: str) -> Callable[[], None]:
    """Do it; returns what ends it, to be called when the proof has ended."""
    if kind == "connection":
        assert isinstance(place, Board)
        kill(place.sessions())
    elif kind in ("daemon", "down"):
        place.kill()
        if kind == "down":
            return place.start
        time.sleep(2)
        place.start()
    elif kind == "network":
        loopback("down")
        return lambda: loopback("up")
    else:
        kill(processes(place, kind))
    return lambda: None


def clean_after_s(place: Place) -> float | None:
    """Seconds until nothing of ours is on the device, in files and processes; None where something stays."""
    began = time.monotonic()
    while time.monotonic() - began < CLEAN_S:
        if not place.left() and not processes(place, "agent") and not processes(place, "server"):
            return time.monotonic() - began
        time.sleep(0.1)
    return None


class Heard:
    """What a bench says: sessions that were taken, by key, and lost connections."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.lost = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageFinished) and event.stage == "profile" and not event.reused:
            self.taken.append(event.key)
        if isinstance(event, Note) and "is lost" in event.text:
            self.lost += 1


def proven(bench: Bench) -> tuple[int, bool]:
    """A proof: its sessions, and whether it is met."""
    proof = prove(bench, anchor_file(bench), anchor_source(), BUDGET)
    return len(proof.values), proof.met


def opened(root: Path, heard: Heard) -> Bench:
    """What proves on the device, with an empty cache."""
    asked = CalibrationRequest.parse(4, "resnet", "32", "fp32")
    bench = open_calibration(load_target(TARGET), asked, Store(root, heard))
    bench.meter.settings = SETTINGS
    anchor_file(bench)
    bench.meter.close()
    return bench


def once(place: Place, bench: Bench, heard: Heard, kind: str, after_s: float | None) -> dict[str, Any]:
    """A proof without sessions in the cache, disturbed so many seconds after its beginning."""
    bench.meter.occasion = f"{kind} {after_s}"
    before, heard.lost, began = len(heard.taken), 0, time.monotonic()
    end: list[Callable[[], None]] = []
    timer = threading.Timer(after_s or 0, lambda: end.append(disturb(place, kind)))
    if after_s is not None:
        timer.start()
    codes: list[int] = []
    sessions, met = 0, False
    while len(codes) < 2 and codes != [int(ExitCode.OK)]:
        try:
            sessions, met = proven(bench)
            codes.append(int(ExitCode.OK))
        except UnreachableError as error:
            codes.append(int(error.exit_code))
        if after_s is not None:
            timer.join()
        while end:
            end.pop()()
    seconds = time.monotonic() - began
    bench.meter.close()
    clean_s = clean_after_s(place)
    own = heard.taken[before:]
    return {
        "at_s": after_s,
        "codes": codes,
        "sessions": sessions,
        "taken": len(own),
        "twice": len(own) - len(set(own)),
        "lost": heard.lost,
        "met": met,
        "seconds": round(seconds, 1),
        "clean_after_s": None if clean_s is None else round(clean_s, 1),
    }


@contextmanager
def place_of(kind: str, folder: Path) -> Iterator[Place]:
    """The device of a kind, which the user's file names."""
    with ExitStack() as held:
        place: Place = held.enter_context(phone_in(folder)) if kind.startswith("adb") else Board(folder)
        if isinstance(place, Board):
            held.callback(place.kill)
        (folder / "devices.toml").write_text(f'{place.section("device")}target = "{TARGET}"\n')
        os.environ[FILE_VARIABLE] = str(folder / "devices.toml")
        yield place


def measured(kind: str, moments: int) -> dict[str, Any]:
    """All moments of one kind."""
    with tempfile.TemporaryDirectory() as name, place_of(kind, Path(name)) as place:
        heard = Heard()
        bench = opened(Path(name) / "cache", heard)
        plain = once(place, bench, heard, kind.partition("-")[2], None)
        found = []
        for number in range(moments):
            at_s = plain["seconds"] * (number + 0.5) / moments
            found.append(once(place, bench, heard, kind.partition("-")[2], at_s))
            print(kind, json.dumps(found[-1]), file=sys.stderr, flush=True)
    good = [one for one in found if one["sessions"] == plain["sessions"] == one["taken"] and not one["twice"]]
    return {
        "kind": kind,
        "undisturbed": plain,
        "moments": found,
        "finished": sum(one["codes"] == [0] for one in found),
        "finished_after_exit_4": sum(one["codes"] == [4, 0] for one in found),
        "all_sessions_once": len(good),
        "clean": sum(one["clean_after_s"] is not None for one in found),
        "median_clean_after_s": statistics.median(one["clean_after_s"] or CLEAN_S for one in found),
    }


def apart(kind: str, moments: int) -> dict[str, Any]:
    """In a network namespace of its own, whose loopback interface can be switched off."""
    command = [sys.executable, __file__, "--moments", str(moments), "--kinds", kind, "--inside"]
    shell = f"ip link set lo up && exec {' '.join(command)}"
    done = subprocess.run(["unshare", "--net", "sh", "-c", shell], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["kinds"][0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    for kind in arguments.kinds.split(","):
        outside = kind == "ssh-network" and not arguments.inside
        found.append((apart if outside else measured)(kind, arguments.moments))
        if arguments.json:  # after each kind: all of them take hours
            arguments.json.write_text(_text(found) + "\n")
    if not arguments.json:
        print(_text(found))


def _text(kinds: list[dict[str, Any]]) -> str:
    return json.dumps({"session_s": SETTINGS.session / 1000, "kinds": kinds}, indent=1)


if __name__ == "__main__":
    main()
