"""Golden inputs and outputs: what an app replays to see that its own preprocessing and runtime give the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Golden:
    """`images` uint8 [N, 3, R, R] from the validation split, already at the contract's resolution; `reference` the fp32
    torch program's logits float32 [N, classes]; `outputs` the logits of each artifact that ran here, by its name in the
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


def write_golden(folder: Path, golden: Golden) -> None:
    """`images.npy`, the same images as `image-000.png` ... for tools that read no npy, `reference.npy`, and
    `<artifact>.npy` for each artifact that ran."""
    from PIL import Image

    folder.mkdir()
    np.save(folder / "images.npy", golden.images)
    np.save(folder / "reference.npy", golden.reference.astype(np.float32))
    for number, image in enumerate(golden.images):
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(folder / f"image-{number:03d}.png")
    for name, logits in golden.outputs.items():
        np.save(folder / f"{name}.npy", logits.astype(np.float32))
