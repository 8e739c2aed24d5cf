"""Two targets in one build, and the same two builds by themselves: what sharing saves.

    python benchmarks/two_targets.py examples/digits/build.toml [--second litert] [--json FILE]

The targets are this machine with ONNX Runtime, and this machine with another runtime. Each of the three runs begins with an
empty cache: both targets in one build, then each alone. Counts are of stages really done; seconds are wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgedistill.building import LOG
from edgedistill.targets import target_file

SHARED = ("teacher", "views", "train", "space")


def second_target(folder: Path, runtime: str) -> Path:
    """This machine with another runtime, as a target file."""
    lines = []
    values = {"name": f"host-{runtime}", "runtime": runtime}
    for line in target_file("host").read_text().splitlines():
        key = line.partition("=")[0].strip()
        if key in values:
            line = f'{key} = "{values[key]}"'
        elif key == "formats":
            line = f'formats = ["{runtime}"]'
        lines.append(line)
    path = folder / f"host-{runtime}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def built(build: Path, targets: list[str], folder: Path) -> dict[str, Any]:
    """One build with a cache of its own: seconds, stages done, status."""
    out = folder / "out"
    named = [part for target in targets for part in ("--target", target)]
    command = [sys.executable, "-m", "edgedistill", "build", str(build), *named, "--out", str(out), "--json"]
    environment = os.environ | {"EDGEDISTILL_CACHE": str(folder / "cache")}
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    logs = [*out.glob(f"*/{LOG}"), *([out / LOG] if (out / LOG).exists() else [])]
    stages = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    counts = Counter(stage["stage"] for stage in stages)
    statuses = [entry["status"] for entry in found["targets"]] if "targets" in found else [found["status"]]
    return {
        "targets": targets,
        "seconds": seconds,
        "statuses": statuses,
        "stages": dict(sorted(counts.items())),
        "shared_seconds": sum(stage["seconds"] for stage in stages if stage["stage"] in SHARED),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--second", default="litert")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        second = str(second_target(folder, arguments.second))
        runs = {}
        for title, targets in (("both", ["host", second]), ("first", ["host"]), ("second", [second])):
            (folder / title).mkdir()
            runs[title] = built(arguments.build, targets, folder / title)
            row = runs[title]
            row["targets"] = [Path(target).stem for target in row["targets"]]
            print(f"{title}: {row['seconds']:.0f} s, {row['statuses']}, {row['stages']}", flush=True)
    apart = runs["first"]["seconds"] + runs["second"]["seconds"]
    share = runs["both"]["seconds"] / apart
    print(f"both in one build: {share:.0%} of the time of two builds")
    if arguments.json:
        arguments.json.write_text(json.dumps({"share_of_two_builds": share, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
