"""Golden pictures and outputs: what an app replays to see that its own preprocessing and runtime give the same answers.

The pictures are as an app gets them: of odd sizes, one with transparency. So a replay covers all steps, and not the network
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from edgedistill.base.arrays import Images, Logits
from edgedistill.data.images import read_rgb, to_rgb
from edgedistill.data.preprocessing import resize
from edgedistill.data.sources import Pixels
from edgedistill.documents.package import TOP, GoldenDocument, GoldenOutputs, GoldenPicture
from edgedistill.documents.specs import ComputedBy, Contract

FOLDER: Final = "golden"
DOCUMENT: Final = f"{FOLDER}/golden.json"
NUDGES: Final = 4
"""So many times each byte of the prepared pictures is changed by -1, 0 or 1, to find a file's tolerance."""
_LONGEST: Final = 4
"""The longest side of a golden picture, in sides of the model's input."""
_TRANSPARENT: Final = (151, 94)
"""Width and height of the picture with transparency: odd, even, and far from a square."""
_LEAST: Final = 1e-5
"""The least tolerance, as a share of the largest output: runtimes add floating point numbers in different orders."""


@dataclass(frozen=True, eq=False)
class GoldenRun:
    """A file's outputs for the golden pictures, float32 [N, width], what computed them, and the tolerance."""

    computed_by: ComputedBy
    outputs: Logits
    tolerance: float


@dataclass(frozen=True, eq=False)
class Golden:
    """`pictures` uint8 [H, W, 3] or, with transparency, [H, W, 4]; `runs` what each file of the package that
    could be run gives for them, by its name there."""

    pictures: tuple[Pixels, ...]
    runs: Mapping[str, GoldenRun]

    def __post_init__(self) -> None:
        for picture in self.pictures:
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
                raise ValueError(f"a golden picture is uint8 [H, W, 3 or 4], not {picture.dtype} {picture.shape}")
        for name, run in self.runs.items():
            if len(run.outputs) != len(self.pictures) or run.outputs.ndim != 2:
                raise ValueError(
                    f"golden outputs of {name} have shape {run.outputs.shape} for {len(self.pictures)} pictures"
                )


def golden_pictures(images: Iterable[Pixels], contract: Contract) -> tuple[Pixels, ...]:
    """Pictures of odd sizes and no squares from images uint8 [H, W, 3], and one of transparency."""
    return (*(_odd(image, _LONGEST * contract.resolution) for image in images), _transparent())


def prepared_pictures(pictures: Iterable[Pixels], contract: Contract) -> Images:
    """What the contract makes of pictures, uint8 [N, 3, R, R]."""
    shown = (np.asarray(to_rgb(Image.fromarray(picture), contract.background)) for picture in pictures)
    return np.stack([resize(picture, contract) for picture in shown])


def nudged(images: Images) -> Images:
    """NUDGES copies of images [N, 3, R, R], one after the other, each byte changed by -1, 0 or 1: uint8
    [NUDGES N, 3, R, R]."""
    steps = np.random.default_rng(0).integers(-1, 2, (NUDGES, *images.shape), dtype=np.int16)
    found: Images = np.clip(images.astype(np.int16) + steps, 0, 255).astype(np.uint8).reshape(-1, *images.shape[1:])
    return found


def tolerance_of(outputs: Logits, nudged_outputs: Logits) -> float:
    """How far outputs [N, width] may move in an app, from those of `nudged` images, [NUDGES N, width]."""
    moved = np.abs(nudged_outputs.reshape(NUDGES, *outputs.shape) - outputs).max()
    return float(2 * moved + _LEAST * max(1.0, np.abs(outputs).max()))


def write_golden(package: Path, golden: Golden, contract: Contract) -> None:
    """`golden/golden.json`, and each picture as PNG with what the contract makes of it."""
    (package / FOLDER).mkdir()
    written = []
    for number, picture in enumerate(golden.pictures):
        height, width, _ = picture.shape
        names = [f"{FOLDER}/{kind}-{number:03d}.png" for kind in ("picture", "prepared")]
        Image.fromarray(picture).save(package / names[0])
        prepared = resize(read_rgb(package / names[0], contract.background), contract)
        Image.fromarray(np.ascontiguousarray(prepared.transpose(1, 2, 0))).save(package / names[1])
        written.append(GoldenPicture(file=names[0], prepared=names[1], width=width, height=height))
    document = GoldenDocument(
        output=contract.output_name,
        pictures=tuple(written),
        files={name: _recorded(run, contract) for name, run in sorted(golden.runs.items())},
    )
    (package / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _recorded(run: GoldenRun, contract: Contract) -> GoldenOutputs:
    outputs = run.outputs.astype(np.float32)
    likeliest = np.argsort(-outputs, axis=1, kind="stable")[:, :TOP] if contract.vector is None else np.empty((0, 0))
    return GoldenOutputs(
        computed_by=run.computed_by,
        tolerance=run.tolerance,
        # Each number as the shortest text that gives the same float32 back.
        outputs=tuple(tuple(float(str(number)) for number in row) for row in outputs),
        top=tuple(tuple(int(place) for place in row) for row in likeliest),
    )


def _odd(image: Pixels, longest: int) -> Pixels:
    height, width, _ = image.shape
    factor = min(1.0, longest / max(height, width))
    size = [round(side * factor) | 1 for side in (width, height)]
    if size[0] == size[1]:
        size[0] += 2
    return np.asarray(Image.fromarray(image).resize((size[0], size[1]), Image.Resampling.BILINEAR))


def _transparent() -> Pixels:
    """uint8 [H, W, 4]: colours that change all over it, and an alpha that fades from its middle to nothing at its rim."""
    width, height = _TRANSPARENT
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    alpha = np.clip(1.6 * (1 - np.hypot(x, y)), 0, 1)
    stripes = 0.5 + 0.5 * np.sin(9 * x) * np.sin(7 * y)
    channels = np.stack([(x + 1) / 2, (y + 1) / 2, stripes, alpha], axis=-1)
    found: Pixels = np.round(255 * channels).astype(np.uint8)
    return found
