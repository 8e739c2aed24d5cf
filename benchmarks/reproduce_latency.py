"""Do p50 and p95 of build.json come out again? Plain ONNX Runtime in a loop, nothing of edgedistill imported.

    python benchmarks/reproduce_latency.py examples/digits/out [--json FILE]

Each ONNX file of the package with a measured latency is run at batch 1 on the golden images, in three fresh processes
pinned to the last CPU with the same number of threads (1 on `host`); printed are the medians over the processes beside
build.json's figures. Exit code 1 if any differs by more than 15%.
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


def samples_ms(model: Path, images_file: Path, threads: int, runs: int) -> list[float]:
    """Latencies in ms of `runs` runs after a warm-up of one second."""
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
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        session.run(None, feeds[0])
    taken = []
    for run in range(runs):
        feed = feeds[run % len(feeds)]
        began = time.perf_counter_ns()
        session.run(None, feed)
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    golden = arguments.out / "package" / "golden" / "images.npy"
    if arguments.one:
        print(json.dumps(samples_ms(arguments.one, golden, threads=1, runs=arguments.runs)))
        return 0
    build = json.loads((arguments.out / "build.json").read_text())
    rows = []
    for artifact in build["artifacts"]:
        if artifact["format"] != "onnx" or artifact["latency"]["kind"] != "measured":
            continue
        command = [sys.executable, __file__, str(arguments.out), "--runs", str(arguments.runs)]
        command += ["--one", str(arguments.out / artifact["path"])]
        sessions = [sorted(json.loads(subprocess.check_output(command))) for _ in range(3)]
        for name, fraction in (("p50_ms", 0.5), ("p95_ms", 0.95)):
            again = statistics.median(s[int(fraction * len(s))] for s in sessions)
            stated = artifact["latency"][name]
            rows.append({"file": artifact["path"], "figure": name, "build_json": stated, "here": again})
    failed = 0
    for row in rows:
        row["difference"] = row["here"] / row["build_json"] - 1
        failed += abs(row["difference"]) > LIMIT
        print(f"{row['file']:36} {row['figure']}  build.json {row['build_json']:.4f}  here {row['here']:.4f}  "
              f"{row['difference']:+.1%}")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
