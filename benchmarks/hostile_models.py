"""How hostile and broken model files end: exit code, time, memory, and what they leave behind.

    python benchmarks/hostile_models.py [--json FILE] [--only WORD] [--keep DIR]

Runs the commands of every case of `tests/hostile_*.py`, each in a process of its own: forked from one that has imported the
libraries, which would take longer than most of the commands. A row is as it should be
when its exit code is one of those expected, stderr holds a cause, with a fix where the code is 2, and no traceback, the file
that hostile content tries to write is not there, nothing is left in the output and temporary folders, and the largest of its
processes stayed below the limit. `--keep` is a folder for the whole files that cases start from: making them takes a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMATS = ("onnx", "tensorrt", "coreml", "litert", "executorch")
REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

import hostile_cases  # noqa: E402
import hostile_onnx  # noqa: E402
import hostile_packages  # noqa: E402
import hostile_pt2  # noqa: E402

from edgedistill.cli.app import run as command_line  # noqa: E402

PEAK_LIMIT_BYTES = 3 * 2**30
"""A child may take 2 GiB for a small file, on top of what its parent has loaded."""
SECONDS_LIMIT = 400
SLOW_SECONDS = 100
KEPT = ("edgedistill-measuring-", ".ses", "torchinductor", "matplotlib")
"""What may stay in the temporary folder: the lock that measurements share, and what libraries keep there."""
NETWORK = """import numpy
import torch

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, image):
        return self.head(torch.relu(self.features(image)).mean((2, 3)))

def network():
    made = Network().eval()
    numpy.save("weights-torch.npy", made.head.weight.detach().numpy())
    return made
"""
CASES = (
    *hostile_cases.COMMON,
    *hostile_onnx.CASES,
    *hostile_pt2.CASES,
    *hostile_packages.COREML,
    *hostile_packages.LITERT,
    *hostile_packages.EXECUTORCH,
    *hostile_cases.ENGINES,
    *hostile_cases.IMAGES,
)


def make_bases(folder: Path) -> None:
    """A whole file of each format, of those whose converters are installed."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.onnx").exists():
        hostile_onnx.whole(folder / "model.onnx")
        hostile_pt2.whole(folder / "model.pt2")
        (folder / "hostile_network.py").write_text(NETWORK)
        command = [sys.executable, "-m", "edgedistill", "export", "hostile_network:network", "--out", str(folder)]
        command += ["--classes", "10", "--resolution", "16", "--formats", "coreml,litert,executorch"]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False)


def preload() -> None:
    """What commands import when they run."""
    for module in ("examine", "export", "model", "profile", "quantize"):
        importlib.import_module(f"edgedistill.commands.{module}")
    for module in FORMATS:
        importlib.import_module(f"edgedistill.formats.{module}.runtime")
    for library in ("onnxruntime", "sklearn.datasets", "coremltools"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)


def run(case: hostile_cases.Case, command: str, root: Path, bases: Path) -> dict[str, Any]:
    """One command on one case, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=root))
    inner, temporary = folder / "case", folder / "tmp"
    inner.mkdir()
    path = case.write(inner, bases)
    image = case.image(inner) if case.image else hostile_cases.picture(inner / "picture.png")
    before = listing(inner)
    arguments = hostile_cases.arguments(case, command, path, image)
    output, errors = folder / "stdout", folder / "stderr"
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        as_command(arguments, folder, temporary, output, errors)
    exit_code, peak = wait(process)
    said = errors.read_text(errors="replace")
    lines = [line.strip() for line in said.splitlines()]
    printed = output.read_text(errors="replace")
    causes = [line for line in lines if line.startswith(("error: ", "! ")) or " failed: " in line]
    causes += [line for line in printed.splitlines() if line.startswith("! ") or " failed: " in line]
    problems = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    left = [name for name in listing(inner) - before if name != "out" and exit_code != 0]
    left += [name for name in listing(temporary) if not name.startswith(KEPT)]
    row = {
        "case": case.name,
        "format": case.format,
        "command": command,
        "exit_code": exit_code,
        "expected": list(case.exits[command]),
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mib": round(peak / 2**20),
        "traceback": "Traceback" in said or "Traceback" in printed,
        "terminal_codes": "\x1b" in said or "\x1b" in printed,
        "canary": any((place / hostile_cases.CANARY).exists() for place in (root, folder, inner)),
        "left": sorted(left),
        "message": " / ".join((causes or lines or [""])[:1] + problems[:1])
        .replace(str(inner), ".")
        .replace(str(folder), ".")
        .replace(str(root), ".")[:300],
        "fix": any("fix: " in line or line.endswith((")", "--help")) for line in (*lines, *printed.splitlines())),
    }
    return row | {"faults": list(faults(case, row, said + printed))}


def as_command(arguments: list[str], folder: Path, temporary: Path, output: Path, errors: Path) -> None:
    """Become the command. Does not return."""
    temporary.mkdir()
    os.environ |= {"TMPDIR": str(temporary), "NO_COLOR": "1"}
    tempfile.tempdir = None
    # What edgedistill does not limit, ends here, and counts as a fault: this machine may be others' too.
    resource.setrlimit(resource.RLIMIT_DATA, (2 * PEAK_LIMIT_BYTES, 2 * PEAK_LIMIT_BYTES))
    os.chdir(folder)
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    code = command_line(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(process: int) -> tuple[int, int]:
    """Exit code, and the most memory that one process of its tree had. A process over the limit on time is ended."""
    deadline = time.monotonic() + SECONDS_LIMIT
    while time.monotonic() < deadline:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024


def listing(folder: Path) -> set[str]:
    if not folder.exists():
        return set()
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} | {
        path.name for path in folder.iterdir()
    }


def faults(case: hostile_cases.Case, row: dict[str, Any], said: str) -> Iterator[str]:
    """What is not as it should be."""
    if row["exit_code"] not in row["expected"]:
        yield f"exit code {row['exit_code']}"
    if row["traceback"]:
        yield "traceback"
    if row["terminal_codes"]:
        yield "codes for the terminal"
    if row["canary"]:
        yield "code was run"
    if row["left"]:
        yield f"left {', '.join(row['left'])}"
    if row["peak_memory_mib"] * 2**20 > PEAK_LIMIT_BYTES:
        yield "memory"
    if row["exit_code"] == 2 and not (row["message"] and row["fix"]):
        yield "no cause or no fix"
    if row["exit_code"] == 2 and not all(part in said for part in case.says):
        yield f"does not say {' and '.join(part for part in case.says if part not in said)}"
    if row["seconds"] > SLOW_SECONDS and not case.slow:
        yield "slow"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name]
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edgedistill-hostile-") as name:
        bases = options.keep or Path(name) / "bases"
        make_bases(bases)
        preload()
        for case in cases:
            try:
                for command in case.exits:
                    rows.append(run(case, command, Path(name), bases))
                    show(rows[-1])
            except (FileNotFoundError, ImportError) as error:
                skipped.append(f"{case.name}: {error}")
    bad = [row for row in rows if row["faults"]]
    peak = max((row["peak_memory_mib"] for row in rows), default=0)
    wrong = [f"{row['case']}, {row['command']}: {'; '.join(row['faults'])}" for row in bad]
    summary = {
        "cases": len({row["case"] for row in rows}),
        "runs": len(rows),
        "not_as_they_should_be": wrong,
        "skipped": skipped,
        "peak_memory_mib": peak,
        "peak_limit_mib": PEAK_LIMIT_BYTES // 2**20,
        "slowest_seconds": max((row["seconds"] for row in rows), default=0),
    }
    print(
        f"{summary['cases']} cases, {len(rows)} runs, {len(bad)} not as they should be, {len(skipped)} skipped; at most "
        f"{peak} MiB"
    )
    for line in (*wrong, *skipped):
        print(f"  {line}")
    if options.json:
        options.json.write_text(json.dumps(summary | {"rows": rows}, indent=1) + "\n")
    return 1 if bad else 0


def show(row: dict[str, Any]) -> None:
    mark = "!" if row["faults"] else " "
    print(
        f"{mark} {row['case'][:52]:52} {row['command']:8} {row['exit_code']:>3} {row['seconds']:6.1f} s "
        f"{row['peak_memory_mib']:5} MiB  {row['message'][:110]}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
