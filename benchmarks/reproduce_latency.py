"""Do p50 and p95 of build.json come out again? Plain ONNX Runtime in a loop, nothing of edgedistill imported.

    python benchmarks/reproduce_latency.py examples/digits/out [--json FILE]

Each ONNX file of the package with a measured latency is run at batch 1 on the golden images, in three fresh processes
pinned to the last CPU with the same number of threads (1 on `host`); printed are the medians over the processes beside
build.json's figures. Exit code 1 if any differs by more than 15%.

A processor that changes its speed (a neighbour on the same core, a clock that rises and falls) gives two latencies for one
model. build.json states the speed at which it measured, as the duration of a fixed piece of arithmetic; each process here
waits up to a minute for that speed, and what it ran at is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 0.15


def reference_us() -> float:
    """Median duration in us of four products of 48x48 matrices and 400 additions in a Python loop."""
    import numpy as np

    matrix = np.full((48, 48), 0.5, np.float32)
    durations = []
    for _ in range(300):
        began = time.perf_counter_ns()
        for _ in range(4):
            matrix @ matrix
        total = 0
        for number in range(400):
            total += number
        durations.append(time.perf_counter_ns() - began)
    return statistics.median(durations) / 1e3


def samples_ms(model: Path, images_file: Path, threads: int, runs: int, wanted_us: float) -> tuple[float, list[float]]:
    """The processor's speed and latencies in ms of `runs` runs after a warm-up of one second."""
    # The matrix product of the reference is to stay on the pinned CPU.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import numpy as np
    import onnxruntime

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    images = np.load(images_file)
    feeds = [{"image": image[None]} for image in images]
    given_up = time.perf_counter() + 60
    while True:
        end = time.perf_counter() + 1
        while time.perf_counter() < end:
            session.run(None, feeds[0])
        speed_us = reference_us()
        if abs(speed_us / wanted_us - 1) <= 0.2 or time.perf_counter() > given_up:
            break
    taken = []
    for run in range(runs):
        feed = feeds[run % len(feeds)]
        began = time.perf_counter_ns()
        session.run(None, feed)
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return speed_us, taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--speed", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    golden = arguments.out / "package" / "golden" / "images.npy"
    if arguments.one:
        print(json.dumps(samples_ms(arguments.one, golden, 1, arguments.runs, arguments.speed)))
        return 0
    build = json.loads((arguments.out / "build.json").read_text())
    rows = []
    for artifact in build["artifacts"]:
        if artifact["format"] != "onnx" or artifact["latency"]["kind"] != "measured":
            continue
        command = [sys.executable, __file__, str(arguments.out), "--runs", str(arguments.runs)]
        wanted_us = artifact["latency"]["reference_us"]
        command += ["--one", str(arguments.out / artifact["path"]), "--speed", str(wanted_us)]
        answers = [json.loads(subprocess.check_output(command)) for _ in range(3)]
        sessions = [sorted(samples) for _, samples in answers]
        speed_us = statistics.median(speed for speed, _ in answers)
        for name, fraction in (("p50_ms", 0.5), ("p95_ms", 0.95)):
            again = statistics.median(s[int(fraction * len(s))] for s in sessions)
            stated = artifact["latency"][name]
            speeds = {"reference_us_build_json": wanted_us, "reference_us_here": speed_us}
            rows.append({"file": artifact["path"], "figure": name, "build_json": stated, "here": again, **speeds})
    failed = 0
    for row in rows:
        row["difference"] = row["here"] / row["build_json"] - 1
        failed += abs(row["difference"]) > LIMIT
        print(f"{row['file']:36} {row['figure']}  build.json {row['build_json']:.4f}  here {row['here']:.4f}  "
              f"{row['difference']:+.1%}   reference {row['reference_us_build_json']:.1f} us, "
              f"here {row['reference_us_here']:.1f} us")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
