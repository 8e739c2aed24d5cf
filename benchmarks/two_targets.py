"""Two targets in one build, one student for both, and the same two builds by themselves: what sharing saves.

    python benchmarks/two_targets.py benchmarks/two_targets.toml [--second litert] [--json FILE]

The targets are this machine with ONNX Runtime, and this machine with another runtime. Each of the four runs begins with an
empty cache: both targets in one build with a winner each, one student for both, then each alone. Counts are of stages really
done; seconds are wall time; accuracies are the winners' on the validation split, in the file that was proven.
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

from edgedistill.documents.results import BuildResult
from edgedistill.documents.targets import target_file
from edgedistill.outputs.explain.winner import winning_artifact
from edgedistill.pipeline.build import BUILD, LOG

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


def outcome(result: BuildResult) -> dict[str, Any]:
    """What won on one target."""
    won = winning_artifact(result) if result.status == "met" else None
    return {
        "status": result.status,
        "student": result.student.spec.label if result.student else None,
        "precision": won.precision if won else None,
        "quality_validation": won.quality_validation if won else None,
        "proof": result.proof.sentence if result.proof else None,
        "budget_ms": result.budget.latency_ms,
    }


def built(build: Path, targets: list[str], folder: Path, *options: str) -> dict[str, Any]:
    """One build with a cache of its own: seconds, stages done, outcome by target."""
    out = folder / "out"
    named = [part for target in targets for part in ("--target", target)]
    command = [sys.executable, "-m", "edgedistill", "build", str(build), *named, *options, "--out", str(out), "--json"]
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
    folders = [out / entry["folder"] for entry in found["targets"]] if "targets" in found else [out]
    results = [BuildResult.model_validate_json((folder / BUILD).read_text()) for folder in folders]
    return {
        "seconds": seconds,
        "outcomes": {result.target: outcome(result) for result in results},
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
        both = ["host", second]
        runs = {}
        for title, targets, options in (
            ("both", both, ()),
            ("one_student", both, ("--one-student",)),
            ("first", ["host"], ()),
            ("second", [second], ()),
        ):
            (folder / title).mkdir()
            runs[title] = built(arguments.build, targets, folder / title, *options)
            row = runs[title]
            print(f"{title}: {row['seconds']:.0f} s, {row['stages']}", flush=True)
            for target, won in row["outcomes"].items():
                print(f"  {target}: {won}", flush=True)
    apart = runs["first"]["seconds"] + runs["second"]["seconds"]
    shares = {title: runs[title]["seconds"] / apart for title in ("both", "one_student")}
    for title, share in shares.items():
        print(f"{title}: {share:.0%} of the time of two builds")
    if arguments.json:
        arguments.json.write_text(json.dumps({"share_of_two_builds": shares, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
