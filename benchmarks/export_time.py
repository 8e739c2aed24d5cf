"""How long `edgedistill export` takes, beside each vendor's plain converter on the same model.

    python benchmarks/export_time.py [--models mobilenetv4_conv_small] [--rounds 3] --json OUT

Both are fresh processes, in turn, wall time from start to exit: imports, building the model, converting, writing the file.
`export` does not run its file for parity (`--no-verify`); everything else that it does stays in: its passes, the contract,
limits and child processes, and reading the file back. A row a model and format:
medians over the rounds, their range, and the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODELS = "mobilenetv4_conv_small"
ENDINGS = {"onnx": "onnx", "coreml": "mlpackage", "tensorrt": "engine", "litert": "tflite", "executorch": "pte"}
PLAIN = Path(__file__).with_name("plain_converters.py")


def timed(command: list[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return seconds


def ours(model: str, form: str, folder: Path) -> float:
    command = [sys.executable, "-m", "edgedistill", "export", f"timm:{model}", "--random-weights", "--formats", form]
    return timed([*command, "--no-verify", "--out", str(folder)])


def plain(model: str, form: str, folder: Path) -> float:
    return timed([sys.executable, str(PLAIN), model, form, str(folder / f"plain.{ENDINGS[form]}")])


def compare(model: str, form: str, rounds: int) -> dict[str, Any]:
    samples: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("plain", plain)):
            with tempfile.TemporaryDirectory() as folder:
                samples[name].append(run(model, form, Path(folder)))
    row: dict[str, Any] = {"model": model, "format": form, "rounds": rounds}
    for name, values in samples.items():
        row |= {f"{name}_s": round(statistics.median(values), 2)}
        row |= {f"{name}_range_s": [round(min(values), 2), round(max(values), 2)]}
    return row | {"ratio": round(row["ours_s"] / row["plain_s"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--formats", default=",".join(ENDINGS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models.split(","):
        for form in arguments.formats.split(","):
            rows.append(compare(model, form, arguments.rounds))
            print({key: rows[-1][key] for key in ("model", "format", "ours_s", "plain_s", "ratio")}, flush=True)
            document = {"cpus": os.cpu_count(), "largest_ratio": max(row["ratio"] for row in rows), "rows": rows}
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
