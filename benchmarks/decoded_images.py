"""How fast views of large images are: cropped from the images as they are, from working copies made each time, and from
copies that are kept; and how much views of copies differ.

    python benchmarks/decoded_images.py [--folder FOLDER] [--images 1000] [--epochs 4] [--side 64] [--pairs 3] [--json FILE]

Takes PNG and JPEG files below `--folder`, spread evenly, or writes JPEG photographs of 1600 x 1200 pixels made of noise of
all scales. Renders `--epochs` epochs of training batches at `--side` pixels in each of the three ways, in turn, `--pairs`
times, with as many processes as a training on the CPU has. The third way begins with an empty cache each time: making the
copies counts. Checked: that the second and the third way give the same pixels.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.folder import FolderImages
from edgedistill.data.images import size_fault
from edgedistill.data.splits import Splits
from edgedistill.data.working import STAGE, CopyMaker, WorkingImages, working_side
from edgedistill.devices.agent.agent_machine import allowed_cpus
from edgedistill.distill.batches import DrawnViews, ViewBatches
from edgedistill.distill.hardware import choose_hardware
from edgedistill.documents.build_file import AugmentationConfig, TrainConfig
from edgedistill.documents.specs import Contract

AUGMENTATION = AugmentationConfig()
KEY = "0" * 64


def write_photographs(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = np.zeros((1200, 1600, 3), np.float32)
        for scale in (4, 16, 64, 256):
            noise = Image.fromarray(rng.integers(0, 256, (3 * 1200 // scale + 3, 1600 // scale + 1), dtype=np.uint8))
            large = np.asarray(noise.resize((1600, 3600), Image.Resampling.BICUBIC), np.float32)
            pixels += large.reshape(3, 1200, 1600).transpose(1, 2, 0) / 4
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:05}.jpg", quality=90)


def size_of(path: str) -> tuple[int, int]:
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning), Image.open(path) as image:
        return image.size


def dataset_of(folder: Path, count: int) -> Dataset:
    paths = sorted(str(path) for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
    spread = [paths[row] for row in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]
    chosen = [path for path in spread if not size_fault(*size_of(path))]
    every = np.arange(len(chosen), dtype=np.int64)
    splits = Splits(every, every[:0], every[:0], None)
    return Dataset(folder.name, ("a", "b"), every % 2, FolderImages(tuple(chosen), (255, 255, 255)), splits, "")


def batches_of(dataset: Dataset, side: int) -> ViewBatches:
    contract = Contract(resolution=side, mean=(0, 0, 0), std=(1, 1, 1), labels=dataset.classes)
    source = DrawnViews(len(dataset.splits.train), AUGMENTATION)
    return ViewBatches(dataset, contract, source, batch_size=128, seed=0)


def timed(dataset: Dataset, side: int, epochs: int) -> tuple[float, str]:
    """Seconds for all batches, and a hash of their pixels."""
    batches = batches_of(dataset, side)
    hardware = choose_hardware(TrainConfig(device="cpu"), dataset.images)
    began, hasher = time.monotonic(), hashlib.sha256()
    for batch in batches.loader(range(epochs * batches.steps_per_epoch), hardware):
        hasher.update(batch.images.numpy().tobytes())
    return time.monotonic() - began, hasher.hexdigest()


def difference(dataset: Dataset, other: Dataset, side: int) -> float:
    """Of the pixels of a batch, as a root mean square."""
    pairs = zip(*(batches_of(one, side).batch(0).images.numpy().astype(float) for one in (dataset, other)), strict=True)
    return float(np.sqrt(np.mean([np.square(one - another).mean() for one, another in pairs])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgedistill-decoded-") as name:
        if arguments.folder is None:
            write_photographs(Path(name), arguments.images)
        dataset = dataset_of(arguments.folder or Path(name), arguments.images)
        plain = WorkingImages(dataset.images, dataset.splits.train, working_side(arguments.side, AUGMENTATION), None)
        seconds: dict[str, list[float]] = {"original": [], "made each time": [], "kept": [], "of these making": []}
        for pair in range(arguments.pairs):
            seconds["original"].append(timed(dataset, arguments.side, arguments.epochs)[0])
            took, pixels = timed(replace(dataset, images=plain), arguments.side, arguments.epochs)
            seconds["made each time"].append(took)
            store, began = Store(Path(name) / f"cache {pair}"), time.monotonic()
            CopyMaker(store, KEY, plain, dataset.name).make(limit_bytes=10**12)
            seconds["of these making"].append(time.monotonic() - began)
            kept = replace(plain, folder=store.find(STAGE, KEY))
            took, same = timed(replace(dataset, images=kept), arguments.side, arguments.epochs)
            seconds["kept"].append(took + seconds["of these making"][-1])
            assert same == pixels, "the copies that are kept are others"
        levels = difference(dataset, replace(dataset, images=plain), arguments.side)
        cache_bytes = store.usage()[STAGE][1]
    views = arguments.epochs * len(dataset.images)
    document = {
        "images": len(dataset.images),
        "epochs": arguments.epochs,
        "side": arguments.side,
        "working_side": plain.side,
        "difference_grey_levels": round(levels, 2),
        "cpus": len(allowed_cpus()),
        "cache_mb": round(cache_bytes / 1e6, 1),
        "seconds": {way: [round(took, 2) for took in taken] for way, taken in seconds.items()},
        "images_per_second": {way: round(views / statistics.median(seconds[way])) for way in list(seconds)[:3]},
    }
    print(json.dumps(document, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
