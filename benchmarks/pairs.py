"""Pairs against sessions of one file alone, on the same files, in one run: how much each moves from session to session.

    python benchmarks/pairs.py --json FILE [--sessions 12] [--target host,host-litert,host-executorch] [--before CHECKOUT]

For each file (students with random weights, fp32 and int8) the sessions of three ways follow one another in turn, all
of one length: the file in turn with the search's anchor (what a build compares by), the file alone, and the anchor
alone. Told are the standard deviations of the logs from session to session of the ratio of p95, of p95 alone and of the
quotient of the two p95 that were taken alone; the bias of alternating, which is the median ratio of medians in pairs
over the quotient of the median p50 alone, with its standard error; by how much one session in turn misses the p95 of the
file alone, told by the ratio of p95 and by that of medians; and the seconds that a file takes in each way, all included.
The budget's percentile is compared as a build compares it: by medians where a session is too short for it
(`by_median`).

With --before the measuring agent of an older checkout measures each file as well, as that one measured its candidates.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import one_session

from edgedistill.base.store import Store
from edgedistill.commands.calibrate_target import open_calibration
from edgedistill.commands.requests import CalibrationRequest
from edgedistill.devices.local import pick_cpus
from edgedistill.devices.stats import percentile_ms, ratio, resolves, spread
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.measurements import Session
from edgedistill.documents.specs import Percentile, StudentSpec
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.make import compiled, portable
from edgedistill.pipeline.train import untrained

STUDENTS = (
    StudentSpec(family="mobileone", width=0.25, depth=0.5, resolution=28),
    StudentSpec(family="resnet", width=0.25, depth=1.0, resolution=28),
    StudentSpec(family="mobilenetv3", width=0.5, depth=1.0, resolution=96),
    StudentSpec(family="mobilenetv4", width=1.0, depth=1.0, resolution=224),
)
SECONDS = 1.0
P50, P95 = Percentile.P50, Percentile.P95


def p95_ms(sessions: Sequence[Session]) -> list[float]:
    return [percentile_ms(session.samples_ns, P95.fraction) for session in sessions]


def p50_ms(sessions: Sequence[Session]) -> list[float]:
    return [percentile_ms(session.samples_ns, P50.fraction) for session in sessions]


def before(agent: Path, artifact: CompiledArtifact) -> tuple[float, float, float]:
    """p95 in ms by an older agent, the processor's speed that it saw, and the seconds that it took."""
    job = {
        "model": str(artifact.path),
        "format": artifact.format.value,
        "threads": 1,
        "pinned_cpus": list(pick_cpus(1)),
        "max_samples": 2000,
        "max_seconds": 6.0,
    }
    variables = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-E", "-P", str(agent)], input=json.dumps(job), capture_output=True, text=True, env=variables
    )
    session = json.loads(answer.stdout)["session"]
    return (
        percentile_ms(session["samples_ns"], P95.fraction),
        session.get("reference_us") or statistics.median(session["references_us"]),
        time.monotonic() - began,
    )


def compared(artifact: CompiledArtifact, anchor: CompiledArtifact, count: int, agent: Path | None) -> dict[str, Any]:
    """The figures of one file."""
    taken: dict[str, list[Session]] = {"pair": [], "alone": [], "anchor": []}
    seconds: dict[str, list[float]] = {name: [] for name in (*taken, "before")}
    older: list[tuple[float, float]] = []
    for _ in range(count):
        for name, file, beside in (("pair", artifact, anchor), ("alone", artifact, None), ("anchor", anchor, None)):
            began = time.monotonic()
            taken[name] += one_session(file, None, beside, SECONDS).sessions
            seconds[name].append(time.monotonic() - began)
        if agent is not None:
            value, speed_us, took_s = before(agent, artifact)
            older.append((value, speed_us))
            seconds["before"].append(took_s)
    pairs = [ratio(session, P95) for session in taken["pair"]]
    medians = [ratio(session, P50) for session in taken["pair"]]
    mine, its = p50_ms(taken["alone"]), p50_ms(taken["anchor"])
    quotient = statistics.median(mine) / statistics.median(its)
    # The standard error of the log of a median is about 1.25 times that of a mean.
    error = 1.25 * math.hypot(spread(medians), spread(mine), spread(its)) / math.sqrt(count)
    found: dict[str, Any] = {
        "by_median": not all(resolves(session, P95) for session in taken["pair"]),
        "p95_ms": round(statistics.median(p95_ms(taken["alone"])), 4),
        "spread_pair_p95": spread(pairs),
        "spread_pair_p50": spread(medians),
        "spread_alone_p95": spread(p95_ms(taken["alone"])),
        "spread_quotient_p95": spread([a / b for a, b in zip(p95_ms(taken["alone"]), p95_ms(taken["anchor"]))]),
        "bias": statistics.median(medians) / quotient - 1,
        "bias_error": error,
        "seconds_pair": statistics.median(seconds["pair"]),
        "seconds_alone": statistics.median(seconds["alone"]),
        "values": {"pair": pairs, "alone": p95_ms(taken["alone"]), "anchor": p95_ms(taken["anchor"])},
    }
    # How well one session in turn tells the p95 of the file alone, as a share: by either ratio times the anchor's own p95.
    truth, unit = statistics.median(p95_ms(taken["alone"])), statistics.median(p95_ms(taken["anchor"]))
    for name, ratios in (("p95", pairs), ("p50", medians)):
        found[f"misses_by_{name}"] = math.sqrt(statistics.fmean(math.log(r * unit / truth) ** 2 for r in ratios))
    if older:
        first_us = older[0][1]
        # As it compared them: what ran at another speed of the processor by more than a fifth was scaled to the first's.
        at_speed = [ms * first_us / us if abs(us / first_us - 1) > 0.2 else ms for ms, us in older]
        found |= {"spread_before_p95": spread(at_speed), "seconds_before": statistics.median(seconds["before"])}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sessions", type=int, default=12)
    parser.add_argument("--target", default="host,host-litert,host-executorch")
    parser.add_argument("--before", type=Path, help="a checkout of an older version")
    arguments = parser.parse_args()
    agent = arguments.before and arguments.before / "edgedistill" / "devices" / "agent.py"
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.target.split(","):
            bench = open_calibration(load_target(name), CalibrationRequest(), Store(Path(scratch)))
            assert bench.meter.scale is not None
            for spec in STUDENTS:
                for scheme in bench.schemes:
                    source = untrained(bench, spec)
                    artifact = compiled(bench, portable(bench, source, scheme, bench.target.runtime))
                    found = compared(artifact, bench.meter.scale.anchor, arguments.sessions, agent)
                    rows.append({"target": name, "student": spec.label, "precision": scheme.label, **found})
                    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items() if k != "values"}
                    print(name, spec.label, scheme.label, shown, flush=True)
                    document = {"seconds": SECONDS, "sessions": arguments.sessions, "rows": rows}
                    arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
