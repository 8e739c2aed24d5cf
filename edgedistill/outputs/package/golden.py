"""Golden inputs and outputs: what an app replays to see that its own preprocessing and runtime give the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.data.images import read_rgb
from edgedistill.data.preprocessing import resize
from edgedistill.documents.specs import Contract

PICTURE: Final = "picture.png"
PREPARED: Final = "picture-prepared.png"
_PICTURE_SIZE: Final = (151, 94)
"""Width and height of the picture: odd, even, and far from a square."""


@dataclass(frozen=True, eq=False)
class Golden:
    """`images` uint8 [N, 3, R, R] from the validation split, already at the contract's resolution; `reference` the fp32
    torch program's outputs float32 [N, width]; `outputs` those of each artifact that ran here, by its name in the
    package, of the same shape as `reference`."""

    images: NDArray[np.uint8]
    reference: NDArray[np.float32]
    outputs: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"golden images are uint8 [N, 3, R, R], not {self.images.dtype} {self.images.shape}")
        for name, logits in {"reference": self.reference, **self.outputs}.items():
            if len(logits) != len(self.images) or logits.shape != self.reference.shape:
                raise ValueError(f"golden outputs of {name} have shape {logits.shape}, not {self.reference.shape}")


def write_golden(folder: Path, golden: Golden, contract: Contract) -> None:
    """`images.npy`, the same images as `image-000.png` ... for tools that read no npy, `reference.npy`, and
    `<artifact>.npy` for each artifact that ran; a picture with transparency, and what the contract makes of it."""
    from PIL import Image

    folder.mkdir()
    Image.fromarray(_picture()).save(folder / PICTURE)
    prepared = resize(read_rgb(folder / PICTURE, contract.background), contract)
    Image.fromarray(np.ascontiguousarray(prepared.transpose(1, 2, 0))).save(folder / PREPARED)
    np.save(folder / "images.npy", golden.images)
    np.save(folder / "reference.npy", golden.reference.astype(np.float32))
    for number, image in enumerate(golden.images):
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(folder / f"image-{number:03d}.png")
    for name, logits in golden.outputs.items():
        np.save(folder / f"{name}.npy", logits.astype(np.float32))


def _picture() -> NDArray[np.uint8]:
    """uint8 [H, W, 4]: colours that change all over it, and an alpha that fades from its middle to nothing at its rim."""
    width, height = _PICTURE_SIZE
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    alpha = np.clip(1.6 * (1 - np.hypot(x, y)), 0, 1)
    stripes = 0.5 + 0.5 * np.sin(9 * x) * np.sin(7 * y)
    channels = np.stack([(x + 1) / 2, (y + 1) / 2, stripes, alpha], axis=-1)
    found: NDArray[np.uint8] = np.round(255 * channels).astype(np.uint8)
    return found
