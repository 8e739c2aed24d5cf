"""What a second build costs: the same again, with another budget, and how long `--help` takes.

    python benchmarks/incremental.py examples/digits/build.toml [--budget 12%] [--json FILE]

Needs a finished build in OUT (`out/` beside the build file); works on a copy of it. Times are medians of whole processes;
`--help` is timed in turn with `python -c "import typer, rich"`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def seconds(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def done_stages(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "stages.jsonl").read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--budget", default="12%")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="edgedistill-again-")) / "out"
    shutil.copytree(arguments.build.parent / "out", out)
    program = [sys.executable, "-m", "edgedistill"]
    build = [*program, "build", str(arguments.build), "--target", "host", "--out", str(out)]
    seconds(build)
    again = [seconds(build) for _ in range(arguments.runs)]
    before = len(done_stages(out))
    changed = seconds([*build, "--budget", arguments.budget])
    stages = Counter(str(stage["stage"]) for stage in done_stages(out)[before:])
    result = json.loads((out / "build.json").read_text())
    help_s, import_s = [], []
    for _ in range(arguments.runs):
        help_s.append(seconds([*program, "--help"]))
        import_s.append(seconds([sys.executable, "-c", "import typer, rich"]))
    document = {
        "same_build_again_s": statistics.median(again),
        "budget_changed_to": arguments.budget,
        "budget_changed_s": changed,
        "budget_changed_status": result["status"],
        "stages_done_for_it": dict(stages),
        "help_s": statistics.median(help_s),
        "import_typer_rich_s": statistics.median(import_s),
    }
    print(json.dumps(document, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
