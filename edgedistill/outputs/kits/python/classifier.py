"""Classifies pictures with the model in `model/`: numpy, Pillow and ONNX Runtime are all that it needs.

python classifier.py PICTURE ...
python classifier.py --latency       what the model takes on this machine, as JSON
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pinned import SUMS_SHA256

MODEL = Path(__file__).parent / "model"
RUNS = 50
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Model:
    """The model file of the package in `folder`. Raises ValueError where a file is not the one that was built."""

    def __init__(self, folder: Path = MODEL) -> None:
        self.folder, self._sums = folder, _sums(folder)
        self.contract: dict[str, Any] = json.loads(self.read("contract.json"))
        self.name: str = self.contract["recommended"]["python"]
        self.labels: list[str] = self.contract["labels"]
        file = self.contract["files"][self.name]
        self.temperature: float = file["temperature"] or 1.0
        self.none_below: float = file["none_below"] or 0.0
        content, began = self.read(self.name), time.perf_counter()
        self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.load_ms = _ms_since(began)

    def read(self, name: str) -> bytes:
        """A file of the package, compared with its hash."""
        content = (self.folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self._sums.get(name):
            raise ValueError(f"{name} is not the file that was built: its hash differs")
        return content

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """What the model takes of a picture, uint8 [H, W, 3]: the steps of contract.json."""
        for step in self.contract["preparation"]:
            picture = _STEPS[step["step"]](picture, step)
        return np.asarray(picture, dtype=np.uint8)

    def run(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The model's outputs for prepared pixels, float32 [width]: logits, or a vector of length 1."""
        image = np.ascontiguousarray(prepared.transpose(2, 0, 1))[None]
        names = [self.contract["output"]["name"]]
        outputs: NDArray[np.float32] = self._session.run(names, {self.contract["input"]["name"]: image})[0][0]
        return outputs

    def classify(self, picture: Image.Image, count: int = 5) -> list[tuple[str, float]]:
        """The most probable labels of a picture with their probabilities, the likeliest first."""
        logits = self.run(self.prepare(picture)).astype(np.float64)
        shares = np.exp((logits - logits.max()) / self.temperature)
        shares /= shares.sum()
        return [(self.labels[place], float(shares[place])) for place in np.argsort(-shares, kind="stable")[:count]]

    def is_none(self, answers: list[tuple[str, float]]) -> bool:
        """Whether the likeliest of these is not probable enough: then the answer is "none of these". Where the build file
        does not ask for that answer, this is never so."""
        return answers[0][1] < self.none_below

    def latency(self) -> dict[str, Any]:
        """What the model takes on this machine, in a form to send back: schemas/kit_latency.schema.json of the package
        describes it."""
        picture = Image.new("RGB", (640, 480), (128, 128, 128))
        prepared = self.prepare(picture)
        first, *runs = (_timed(lambda: self.run(prepared)) for _ in range(RUNS + 1))
        at = sorted(runs)
        return {
            "schema_version": 1,
            "platform": "python",
            "file": self.name,
            "sha256_sums": SUMS_SHA256,
            "device": platform.processor() or platform.machine(),
            "system": f"{platform.platform()}, Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}",
            "threads": None,
            "load_ms": self.load_ms,
            "first_run_ms": first,
            "run_p50_ms": at[math.ceil(0.5 * RUNS) - 1],
            "run_p95_ms": at[math.ceil(0.95 * RUNS) - 1],
            "picture_to_label_ms": _timed(lambda: self.classify(picture)),
            "runs": RUNS,
        }


def _ms_since(began: float) -> float:
    return 1000 * (time.perf_counter() - began)


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return _ms_since(began)


def _orient(picture: Image.Image, _: dict[str, Any]) -> Image.Image:
    return ImageOps.exif_transpose(picture)


def _composite(picture: Image.Image, step: dict[str, Any]) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow would clip it to white
        wide = np.asarray(picture).astype(np.uint32)
        picture = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if picture.mode == "La":
        picture = picture.convert("LA")
    layered = picture.convert("RGBA")
    page = Image.new("RGB", layered.size, tuple(step["background"]))
    page.paste(layered, mask=layered)
    return page


def _crop(picture: Image.Image, _: dict[str, Any]) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _resize(picture: Image.Image, step: dict[str, Any]) -> Image.Image:
    # One side at a time: Pillow 13 and later take the columns of a tall picture first, and its bytes differ then.
    size, found = (step["width"], step["height"]), FILTERS[step["filter"]]
    return picture.resize((size[0], picture.height), found).resize(size, found)


_STEPS = {"orient": _orient, "composite": _composite, "crop": _crop, "resize": _resize}


def _sums(folder: Path) -> dict[str, str]:
    content = (folder / "SHA256SUMS").read_bytes()
    if hashlib.sha256(content).hexdigest() != SUMS_SHA256:
        raise ValueError("SHA256SUMS is not that of the package that this kit was made for: make the kit again")
    return {name: digest for digest, name in (line.split("  ", 1) for line in content.decode().splitlines())}


def main() -> int:
    model = Model()
    for path in sys.argv[1:]:
        if path == "--latency":
            print(json.dumps(model.latency(), indent=2))
            continue
        with Image.open(path) as picture:
            answers = model.classify(picture)
        found = ", ".join(f"{label} {probability:.1%}" for label, probability in answers)
        print(f"{path}: {'none of these; ' if model.is_none(answers) else ''}{found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
