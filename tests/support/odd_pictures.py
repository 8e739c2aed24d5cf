"""Two hundred odd picture files, and what each has to become: for the preprocessing of other languages.

Sizes are from one pixel to 10,000 a side. There are grey pictures, palettes, CMYK, 16 bits, alpha, and pictures that EXIF
turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgedistill.data.images import to_rgb
from edgedistill.data.preprocessing import resize
from edgedistill.documents.package import preparation
from edgedistill.documents.specs import Contract

COUNT = 200
SIZES = ((1, 1), (1, 7), (9, 1), (1, 10_000), (10_000, 1), (2, 3), (10_000, 3), (33, 47), (640, 481), (101, 1999))
MODES = ("RGB", "L", "P", "CMYK", "RGBA", "LA", "I;16", "1")
ORIENTATION = 0x0112


def odd_pictures() -> Iterator[tuple[str, Image.Image]]:
    """Pictures of each mode and size, then of random ones, each with the format that holds it."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        mode = MODES[number % len(MODES)]
        if number < len(MODES) * len(SIZES):
            size = SIZES[number // len(MODES)]
        else:
            size = (int(rng.integers(1, 400)), int(rng.integers(1, 400)))
        picture = _of_mode(mode, *size, rng, smooth=number % 3 > 0)
        kind = "JPEG" if mode in ("CMYK", "RGB", "L") and number % 2 else "TIFF" if mode == "CMYK" else "PNG"
        yield kind, picture


def _of_mode(mode: str, width: int, height: int, rng: np.random.Generator, *, smooth: bool) -> Image.Image:
    channels = {"RGBA": 4, "CMYK": 4, "LA": 2, "RGB": 3, "P": 3}.get(mode, 1)
    if smooth:
        small = rng.integers(0, 256, (3, 4, channels), dtype=np.uint8)
        parts = [
            Image.fromarray(small[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)
        ]
        pixels = np.stack([np.asarray(part) for part in parts], axis=-1)
    else:
        pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "1":
        return Image.fromarray(pixels[..., 0]).convert("1")
    if mode == "P":
        return Image.fromarray(pixels).quantize(16)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0], mode=mode)


def write_odd_pictures(folder: Path, contracts: list[Contract]) -> list[dict[str, Any]]:
    """Each picture as a file, as upright RGBA (`N.rgba`) and as each contract makes it (`N-K.rgb`); `index.json` lists
    them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, (kind, picture) in enumerate(odd_pictures()):
        path = folder / f"{number}.{kind.lower()}"
        exif = Image.Exif()
        exif[ORIENTATION] = number % 8 + 1
        picture.save(path, kind, **({"exif": exif} if kind != "TIFF" else {}))
        with Image.open(path) as opened:
            upright = _rgba(opened)
        (folder / f"{number}.rgba").write_bytes(upright.tobytes())
        for k, contract in enumerate(contracts):
            with Image.open(path) as opened:
                shown = np.asarray(to_rgb(opened, contract.background))
            found = resize(shown, contract).transpose(1, 2, 0)
            (folder / f"{number}-{k}.rgb").write_bytes(np.ascontiguousarray(found).tobytes())
        rows.append({"file": path.name, "width": upright.width, "height": upright.height})
    steps = [[step.model_dump() for step in preparation(contract)] for contract in contracts]
    (folder / "index.json").write_text(json.dumps({"pictures": rows, "preparations": steps}))
    return rows


def _rgba(image: Image.Image) -> Image.Image:
    """What a decoder gives: upright, 8 bits, RGBA that is not premultiplied."""
    from edgedistill.data.images import _upright

    return _upright(image).convert("RGBA")
