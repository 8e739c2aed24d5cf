"""Two builds on one device at once, and a proof beside a busy processor: a real sshd on the loopback interface.

    python benchmarks/device_shared.py [--rounds 3] [--stranger 40] [--json FILE]

Together: the proof of a small file is taken by one process, then by two at once, each with a cache of its own. The device
lets one session run at a time. What is compared are the wall time, the sessions, and what they measured: p95 of the
sessions, alone and together, over all rounds.

Heated: a proof while the other processor is busy without a pause (`neighbour.py`), and one while it is not. The limit of
each is what six sessions before it saw at most, and three tenths more. Then a stranger takes sessions of the same file with
a plain loop of ONNX Runtime beside the same neighbour, and counts those inside the limit, of which the claim is 80%.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from device_faults import SETTINGS, TARGET, Heard, opened, place_of
from plain_latency import judged, plain_sessions

from edgedistill.documents.specs import Budget, Percentile
from edgedistill.pipeline.bench import Bench
from edgedistill.pipeline.measure import anchor_file, anchor_source, prove

BUSY = ("--cpu", "0", "--share", "1.0", "--seconds", "3600")
ROOM = 1.3


def taken(bench: Bench, occasion: str, limit_ms: float) -> dict[str, Any]:
    """A proof without sessions in the cache."""
    bench.meter.occasion = occasion
    began = time.monotonic()
    budget = Budget(latency_ms=limit_ms, percentile=Percentile.P95)
    proof = prove(bench, anchor_file(bench), anchor_source(), budget)
    seconds = time.monotonic() - began
    bench.meter.close()
    return {"seconds": round(seconds, 1), "met": proof.met, "values": list(proof.values), "bound": proof.bound}


def worker(cache: Path, occasion: str) -> None:
    """One of the processes: says that it is ready, waits for a line, takes its proof and prints it."""
    bench = opened(cache, Heard())
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(taken(bench, occasion, 1000.0)), flush=True)


def by_workers(count: int, folder: Path, occasion: str) -> dict[str, Any]:
    """So many proofs at once, each of a process of its own."""
    command = [sys.executable, __file__, "--worker"]
    workers = [
        subprocess.Popen(
            [*command, str(folder / f"cache{number}"), f"{occasion} {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for one in workers:
        assert one.stdout is not None and one.stdout.readline().strip() == "ready"
    began = time.monotonic()
    for one in workers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    proofs = [json.loads(one.communicate()[0]) for one in workers]
    return {"seconds": round(time.monotonic() - began, 1), "proofs": proofs}


def together(rounds: int) -> dict[str, Any]:
    """Alone and together, in turn."""
    found: dict[str, list[dict[str, Any]]] = {"alone": [], "together": []}
    with tempfile.TemporaryDirectory() as name, place_of("ssh", Path(name)):
        for number in range(rounds):
            for kind, count in (("alone", 1), ("together", 2)):
                found[kind].append(by_workers(count, Path(name), f"{kind} {number}"))
                print(kind, found[kind][-1]["seconds"], file=sys.stderr, flush=True)
    values = {
        kind: [value for one in runs for proof in one["proofs"] for value in proof["values"]]
        for kind, runs in found.items()
    }
    medians = {kind: statistics.median(several) for kind, several in values.items()}
    return {
        **{f"{kind}_seconds": [one["seconds"] for one in runs] for kind, runs in found.items()},
        **{
            f"{kind}_sessions": [[len(proof["values"]) for proof in one["proofs"]] for one in runs]
            for kind, runs in found.items()
        },
        **{f"{kind}_p95_ms": round(median, 4) for kind, median in medians.items()},
        "ratio": round(medians["together"] / medians["alone"], 4),
    }


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """The other processor busy, or not."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("neighbour.py")), *BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def heated(stranger: int) -> list[dict[str, Any]]:
    """A proof and a stranger's sessions, beside a busy processor and not."""
    found = []
    for busy in (False, True):
        with tempfile.TemporaryDirectory() as name, place_of("ssh", Path(name)), neighbour(busy):
            bench = opened(Path(name) / "cache", Heard())
            file = anchor_file(bench).path
            seconds = SETTINGS.session / 1000
            before = list(islice(plain_sessions(file, seconds, 0.95, None, 0.1), 6))
            limit_ms = max(before) * ROOM
            proof = taken(bench, f"heated {busy}", limit_ms)
            values, inside = judged(plain_sessions(file, seconds, 0.95, None, 0.1), limit_ms, stranger)
        row = {
            "busy": busy,
            "limit_ms": round(limit_ms, 4),
            "stranger_sessions": len(values),
            "stranger_inside": inside,
        }
        p95_ms = {"proof_p95_ms": statistics.median(proof["values"]), "stranger_p95_ms": statistics.median(values)}
        found.append(row | {"met": proof["met"], "sessions": len(proof["values"])} | p95_ms)
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stranger", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(Path(arguments.worker[0]), arguments.worker[1])
        return
    found = {
        "target": TARGET,
        "session_s": SETTINGS.session / 1000,
        "together": together(arguments.rounds),
        "heated": heated(arguments.stranger),
    }
    text = json.dumps(found, indent=1) + "\n"
    if arguments.json:
        arguments.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
