"""What every source of images gives: pixels on demand, labels, classes, and the splits that come with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]

UNLABELLED: Final = -1
"""The label of an image that has none."""


class ImageSource(Protocol):
    """Images by index, decoded when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pixels:
        """RGB pixels, uint8 [H, W, 3]. Raises InputError if the image can no longer be read."""

    @property
    def decoded(self) -> bool:
        """Whether the pixels are there already, and need not be decoded."""


@dataclass(frozen=True, eq=False)
class GreyImages:
    """Grey images in memory or memory-mapped, uint8 [N, H, W]; the three channels of RGB are copies of the one."""

    pixels: Pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int, /) -> Pixels:
        return np.repeat(self.pixels[index][:, :, None], 3, axis=2)

    @property
    def decoded(self) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class Joined:
    """Several sources one after the other."""

    parts: tuple[ImageSource, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int, /) -> Pixels:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)

    @property
    def decoded(self) -> bool:
        return all(part.decoded for part in self.parts)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A source as loaded: images with labels int64 [N] into `classes`, and for each image the split that it came in
    (`validation` and `test` are None where the source has none). `unlabelled` are further images to train on."""

    name: str
    classes: tuple[str, ...]
    labels: Indices
    images: ImageSource
    train: Indices
    validation: Indices | None = None
    test: Indices | None = None
    unlabelled: ImageSource | None = None


def ranges(sizes: Sequence[int]) -> list[Indices]:
    """Consecutive index ranges of these sizes: [2, 3] gives [0, 1] and [2, 3, 4]."""
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end, dtype=np.int64) for size, end in zip(sizes, ends, strict=True)]
