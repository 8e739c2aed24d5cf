"""kill -9 at random moments of a build, each followed by the same command.

    python benchmarks/kill_resume.py examples/digits/build.toml --kills 20 [--per-build 1] [--seed 0] [--json FILE]

Each build starts from an empty cache and an empty output folder. It is killed with signal 9 at `per-build` random moments of
the time that an undisturbed one takes (unless it is done by then); each kill is followed by the same command, and the last
one's runs to its end. Builds follow one another until so many kills have landed. Checked for each build: it ends with status
`met`; no stage that an earlier run had finished was done again; every finished stage of the cache has the sizes and hashes
its manifest states; every file of the package has the hash that build.json states. The student is compared with the
undisturbed one's; where it is another, what became of it there tells the measurement that made the difference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any


def command(build: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "edgedistill", "build", str(build), "--target", "host", "--out", str(out), "--json"]


def run(build: Path, out: Path, cache: Path, kill_after_s: float | None) -> tuple[int | None, float]:
    """Exit code (None if killed) and seconds of one run of the command."""
    environment = {**os.environ, "EDGEDISTILL_CACHE": str(cache)}
    began = time.monotonic()
    process = subprocess.Popen(
        command(build, out),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(out.parent / "stderr.txt").open("a"),
        start_new_session=True,
    )
    try:
        process.wait(kill_after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None, time.monotonic() - began
    return process.returncode, time.monotonic() - began


def stages(out: Path) -> Counter[str]:
    """How often each stage was really done, by its log."""
    log = out / "stages.jsonl"
    if not log.exists():
        return Counter()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return Counter(f"{entry['stage']} {entry['key']}" for entry in entries)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def damaged(cache: Path) -> list[str]:
    """Finished stages whose files are not those of their manifest."""
    found = []
    for manifest in cache.glob("*/*/manifest.json"):
        if manifest.parent.suffix == ".part":
            continue
        for name, entry in json.loads(manifest.read_text())["files"].items():
            file = manifest.parent / name
            if not file.is_file() or file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
                found.append(str(file.relative_to(cache)))
    return found


def package_damage(out: Path) -> list[str]:
    """Files of the package that are missing, or whose hash is not the one in SHA256SUMS."""
    lines = (out / "package" / "SHA256SUMS").read_text().splitlines()
    stated = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    return [
        name
        for name, digest in stated.items()
        if not (path := out / "package" / name).is_file() or sha256(path) != digest
    ]


def fate(reference: dict[str, Any], student: dict[str, Any] | None) -> str:
    """What became of a student in the undisturbed build, and why."""
    keys = ("family", "width", "depth", "resolution")
    for trial in reference["trials"]:
        if student and all(trial["spec"][key] == student[key] for key in keys):
            return f"{trial['state']}: {trial['reason']}"
    return "not proposed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--per-build", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    root = Path(tempfile.mkdtemp(prefix="edgedistill-kill-"))
    (root / "whole").mkdir()
    code, whole_s = run(arguments.build, root / "whole" / "out", root / "whole" / "cache", None)
    reference = json.loads((root / "whole" / "out" / "build.json").read_text())
    print(f"undisturbed: exit {code}, {whole_s:.0f} s, {reference['status']}, {reference['student']}", flush=True)
    rows: list[dict[str, Any]] = []
    failures = landed = 0
    while landed < arguments.kills:
        folder = root / f"build-{len(rows)}"
        folder.mkdir()
        out, cache = folder / "out", folder / "cache"
        moments_s = sorted(draw.uniform(0.0, whole_s) for _ in range(arguments.per_build))
        kills = []
        for earlier_s, moment_s in zip([0.0, *moments_s], moments_s):
            ended, _ = run(arguments.build, out, cache, moment_s - earlier_s)
            kills.append({"at_s": round(moment_s, 1), "killed": ended is None, "stages_finished": stages(out).total()})
        code, last_s = run(arguments.build, out, cache, None)
        result = json.loads((out / "build.json").read_text()) if code == 0 else {}
        repeated = [stage for stage, count in stages(out).items() if count > 1]
        row = {
            "kills": kills,
            "last_run_s": round(last_s, 1),
            "exit_code": code,
            "status": result.get("status"),
            "student": result.get("student"),
            "same_student": result.get("student") == reference["student"],
            "in_the_undisturbed_build": fate(reference, result.get("student")),
            "stages_done_twice": repeated,
            "damaged": damaged(cache) + (package_damage(out) if code == 0 else []),
        }
        bad = code != 0 or row["status"] != "met" or repeated or row["damaged"]
        failures += bool(bad)
        rows.append(row)
        landed += sum(bool(kill["killed"]) for kill in kills)
        print(json.dumps(row), flush=True)
        if not bad:
            shutil.rmtree(folder)
    if arguments.json:
        document = {"undisturbed_s": round(whole_s, 1), "student": reference["student"], "builds": rows}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{landed} kills; {len(rows) - failures} of {len(rows)} builds as they should be")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
