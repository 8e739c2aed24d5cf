"""How long it takes to load a folder of many small images: the first time, and again with nothing changed.

    python benchmarks/scan_folder.py [--files 60000] [--classes 100] [--scans 3] [--json FILE]

Writes images of 8 x 8 pixels, each different, into a temporary folder and sets their times back: a file younger than two
seconds is read again. Loads them with an empty cache and then `--scans` times more. Checked: that all of them are found, and
that the fingerprint stays the same. The files have just been written, so reading them needs no disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from edgedistill.base.store import CACHE_VARIABLE
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.devices.agent.agent_machine import allowed_cpus
from edgedistill.documents.build_file import DataConfig

SIDE = 8


def make_files(root: Path, files: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    then = time.time() - 3600
    for number in range(files):
        path = root / f"class {number % classes:03}" / f"{number:07}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path, compress_level=0)
        os.utime(path, (then, then))


def timed(config: DataConfig) -> tuple[float, Dataset]:
    began = time.monotonic()
    dataset = load_dataset(config)
    return time.monotonic() - began, dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--scans", type=int, default=3, help="how often to load them again")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgedistill-scan-") as name:
        root = Path(name) / "photos"
        os.environ[CACHE_VARIABLE] = str(Path(name) / "cache")
        make_files(root, arguments.files, arguments.classes)
        config = DataConfig(source="folder", path=root)
        first_s, dataset = timed(config)
        again = [timed(config) for _ in range(arguments.scans)]
    assert len(dataset.images) == arguments.files
    assert {other.fingerprint for _, other in again} == {dataset.fingerprint}
    document = {
        "files": arguments.files,
        "classes": arguments.classes,
        "cpus": len(allowed_cpus()),
        "first_s": round(first_s, 2),
        "again_s": round(statistics.median(seconds for seconds, _ in again), 2),
        "again_range_s": [round(pick(seconds for seconds, _ in again), 2) for pick in (min, max)],
    }
    print(json.dumps(document, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
