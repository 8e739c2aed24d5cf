"""The digits example from an empty cache, several times: how long it takes, what it says, and whether a stranger finds it
so.

    python benchmarks/demo.py --json FILE [--times 3] [--stranger 20] [--keep DIR]
    python benchmarks/demo.py --json FILE --later DIR [--stranger 20]

Each time the build that `make demo` starts runs with a new cache and a new output folder. With --stranger, plain ONNX
Runtime takes so many sessions of each proven file right after its build (reproduce_latency.py). With --keep the folders stay
in DIR, as `1`, `2` and so on. --later builds nothing: the stranger looks at the builds in DIR once more, and what it finds
goes into FILE, which an earlier run wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reproduce_latency import proven

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "digits" / "build.toml"


def built(out: Path, cache: Path) -> dict[str, Any]:
    """One build's seconds and what it found."""
    command = [sys.executable, "-m", "edgedistill", "build", str(EXAMPLE), "--target", "host", "--out", str(out)]
    began = time.monotonic()
    code = subprocess.run(command, env=os.environ | {"EDGEDISTILL_CACHE": str(cache)}, check=False).returncode
    seconds = time.monotonic() - began
    build = json.loads((out / "build.json").read_text())
    proof, student = build["proof"], build["student"]
    shipped = proven(build) if proof else None
    stages: dict[str, float] = {}
    for line in (out / "stages.jsonl").read_text().splitlines():
        stage = json.loads(line)
        stages[stage["stage"]] = round(stages.get(stage["stage"], 0.0) + stage["seconds"], 1)
    return {
        "exit_code": code,
        "seconds": round(seconds, 1),
        "status": build["status"],
        "verdict": build["verdict"],
        "student": student and {key: student[key] for key in ("family", "width", "depth", "resolution", "parameters")},
        "precision": shipped and shipped["precision"],
        "quality": shipped and shipped["quality"],
        "teacher_quality": build["teacher"]["quality"],
        "budget": build["constraints"][0]["budget"],
        "proof": proof,
        "scale": build["scale"],
        "seconds_by_stage": stages,
        "notes": build["notes"],
    }


def checked(out: Path, sessions: int) -> Any:
    """What plain ONNX Runtime finds of the proof of the build in `out`."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / "found.json"
        check = [sys.executable, str(HERE / "reproduce_latency.py"), str(out), "--json", str(found)]
        subprocess.run([*check, "--sessions", str(sessions)], check=False)
        return json.loads(found.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--stranger", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--later", type=Path)
    arguments = parser.parse_args()
    if arguments.later:
        rows = json.loads(arguments.json.read_text())
        for number, row in enumerate(rows, 1):
            if row["status"] == "met":
                row["later"] = checked(arguments.later / str(number), arguments.stranger or 20)
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, arguments.times + 1):
            out, cache = (arguments.keep or Path(scratch)) / str(number), Path(scratch) / f"cache-{number}"
            row = built(out, cache)
            if arguments.stranger and row["status"] == "met":
                row["stranger"] = checked(out, arguments.stranger)
            rows.append(row)
            print(f"{number}: {row['status']} in {row['seconds']:.0f} s; {row['verdict']}", flush=True)
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
