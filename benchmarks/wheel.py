"""The wheel, as a user meets it: built, installed in a new virtual environment, and used from a folder of its own.

    python benchmarks/wheel.py [--extras tensorrt] [--constraint FILE] [--steps init] [--json FILE]

Steps, each timed, the first that fails being the last: `wheel` (python -m build), `venv`, `install` (with every dependency,
by pip as it is configured here), `version`, `targets`, `init` (a build file with the defaults: scikit-learn's digits) and
`build` (`--target host --budget 50%`, from an empty cache). Checked: that edgedistill is imported from the new environment
and not from the checkout; that the targets listed are those of targets/; that the build ends with exit code 0 and status
`met`, and every file it names is there with the size stated. `--steps` ends after the step named. Needs the package `build`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("wheel", "venv", "install", "version", "targets", "init", "build")


class Failure(Exception):
    """A step did not do what it should."""


def call(command: list[str], cwd: Path, environment: dict[str, str]) -> str:
    """Standard output of `command`. Raises Failure with the end of what it said unless it exits with 0."""
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise Failure(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise Failure(message)


def package_bytes(path: Path) -> int:
    """Bytes of a file, or of all files of a folder such as a Core ML package."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


class Trip:
    """The steps in their order; `facts` collects what they saw."""

    def __init__(self, folder: Path, extras: str, constraint: Path | None) -> None:
        self.folder = folder
        self.extras = f"[{extras}]" if extras else ""
        self.constraint = ["--constraint", str(constraint.resolve())] if constraint else []
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir(parents=True)
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        # Nothing of the environment that this script runs in may help.
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        self.environment = {**kept, "EDGEDISTILL_CACHE": str(folder / "cache")}
        self.facts: dict[str, object] = {}

    def edgedistill(self, *arguments: str) -> str:
        return call([str(self.bin / "edgedistill"), *arguments], self.elsewhere, self.environment)

    def wheel(self) -> None:
        out = self.folder / "dist"
        call([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)], ROOT, self.environment)
        (self.file,) = out.glob("*.whl")
        self.facts |= {"wheel": self.file.name, "wheel_bytes": self.file.stat().st_size}

    def venv(self) -> None:
        call([sys.executable, "-m", "venv", str(self.folder / "venv")], self.folder, self.environment)

    def install(self) -> None:
        pip = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", *self.constraint]
        call([*pip, f"edgedistill{self.extras} @ {self.file.as_uri()}"], self.elsewhere, self.environment)
        code = "import edgedistill; print(edgedistill.__file__)"
        where = Path(call([str(self.bin / "python"), "-c", code], self.elsewhere, self.environment).strip())
        expect(self.folder in where.parents, f"edgedistill is imported from {where}")

    def version(self) -> None:
        self.facts["version"] = self.edgedistill("--version").strip()

    def targets(self) -> None:
        names = sorted(target["name"] for target in json.loads(self.edgedistill("targets", "--json")))
        there = sorted(path.stem for path in (ROOT / "targets").glob("*.toml"))
        expect(names == there, f"lists the targets {names}, the checkout has {there}")
        self.facts["targets"] = len(names)

    def init(self) -> None:
        self.edgedistill("init", "build.toml", "--yes")
        expect((self.elsewhere / "build.toml").is_file(), "init wrote no build.toml")

    def build(self) -> None:
        budget = ("--target", "host", "--budget", "50%")
        result = json.loads(self.edgedistill("build", "build.toml", *budget, "--json"))
        expect(result["status"] == "met", f"status {result['status']}")
        out = self.elsewhere / "out"
        for artifact in result["artifacts"]:
            size = package_bytes(out / artifact["path"])
            expect(size == artifact["bytes"], f"{artifact['path']}: {size} bytes, build.json says {artifact['bytes']}")
        expect((out / "report.html").is_file(), "no report.html")
        self.facts |= {
            "status": result["status"],
            "artifacts": [f"{artifact['format']} {artifact['precision']}" for artifact in result["artifacts"]],
        }


def travel(trip: Trip, last: str) -> tuple[dict[str, float], str]:
    """Seconds of each step done up to `last`, and what went wrong, if anything did."""
    seconds: dict[str, float] = {}
    for name in STEPS[: STEPS.index(last) + 1]:
        step: Callable[[], None] = getattr(trip, name)
        began = time.monotonic()
        try:
            step()
        except Failure as failure:
            return seconds, f"{name}: {failure}"
        seconds[name] = round(time.monotonic() - began, 1)
        print(f"{name}: {seconds[name]:.1f} s", file=sys.stderr, flush=True)
    return seconds, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="of the wheel, comma-separated, e.g. tensorrt")
    parser.add_argument("--constraint", type=Path, help="a file of releases for pip, e.g. .ci/constraints.txt")
    parser.add_argument("--steps", default="build", choices=STEPS, help="the last step to do")
    parser.add_argument("--folder", type=Path, help="a new folder to work in, which is kept; else one that is removed")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    arguments = parser.parse_args()
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="edgedistill-wheel-"))).resolve()
    trip = Trip(folder, arguments.extras, arguments.constraint)
    try:
        seconds, failure = travel(trip, arguments.steps)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder)
    document = {"passed": not failure, "failure": failure, "seconds": seconds, **trip.facts}
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
