"""Do p50 and p95 of build.json come out again? Plain ONNX Runtime in a loop, nothing of edgedistill imported.

    python benchmarks/reproduce_latency.py examples/digits/out [--json FILE]

Each ONNX file of the package with a measured latency is run at batch 1 on the golden images, in three fresh processes
pinned to the last CPU with the same number of threads (1 on `host`); printed are the medians over the processes beside
build.json's figures. Exit code 1 if any differs by more than 15%.

build.json states the speed of the processor at which it measured; each process here waits up to a minute for that speed, and
what it ran at is printed (see plain_latency.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from plain_latency import plain_latency

LIMIT = 0.15


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
        import numpy as np

        print(json.dumps(plain_latency(arguments.one, np.load(golden), arguments.runs, arguments.speed)))
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
