"""What each kind of bad input ends with: kind, exit code, and the message's first line.

    python benchmarks/bad_input.py [--json FILE] [--only WORD] [--dry-run]

Runs every case of `tests/loop/bad_input_cases.py` as a process of its own, as a user would, and checks that no traceback
came out. With --dry-run each is `build --dry-run`, which should say the same, and how long each took is told: the cases run
one after the other then.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).parents[1]


def load_cases() -> ModuleType:
    path = REPOSITORY / "tests" / "loop" / "bad_input_cases.py"
    spec = importlib.util.spec_from_file_location("bad_input_cases", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(case: Any, root: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """One case in a folder of its own, with `options` behind its own; paths in its message are relative to that folder."""
    folder = root / case.kind.replace(" ", "-").replace("/", "-")
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "EDGEDISTILL_CACHE": str(root / "cache")}
    command = [sys.executable, "-m", "edgedistill", *case.prepare(folder), *options]
    began = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    stderr = done.stderr.replace(f"{folder}/", "").replace(str(folder), ".")
    lines = [line for line in stderr.splitlines() if line.startswith(("error: ", "fix: ", "  "))]
    return {
        "kind": case.kind,
        "exit_code": done.returncode,
        "expected": case.exit_code,
        "traceback": "Traceback" in done.stderr,
        "message": lines,
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="kinds that hold this word")
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    cases = [case for case in load_cases().CASES if arguments.only in case.kind]
    options, at_once = (["--dry-run"], 1) if arguments.dry_run else ([], os.cpu_count())
    with tempfile.TemporaryDirectory(prefix="edgedistill-bad-") as name, ThreadPoolExecutor(at_once) as pool:
        rows = list(pool.map(lambda case: run(case, Path(name), options), cases))
    for row in rows:
        first = " / ".join(line.strip().removeprefix("error: ") for line in row["message"][:2])
        print(f"{row['kind']:32} {row['exit_code']:>3} {row['seconds']:5.1f} s  {first}")
    bad = [row["kind"] for row in rows if row["exit_code"] != row["expected"] or row["traceback"]]
    print(f"{len(rows)} kinds, {len(bad)} not as they should be{': ' if bad else ''}{', '.join(bad)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
