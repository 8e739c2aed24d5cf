"""Working copies of the training images: what views are cropped from.

A model of 64 pixels needs no photograph of twelve million, and decoding one takes far longer than a crop of it. So views are
cropped from copies that were shrunk to what the largest model can use. They are kept decoded, in one file that every process
maps into its memory. Where they are not kept, each is made when it is asked for, with the same pixels.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill.base.progress import Note, StageAdvanced
from edgedistill.base.store import Store, whole
from edgedistill.base.units import format_bytes
from edgedistill.data.sources import ImageSource, Indices, Pixels
from edgedistill.data.threads import in_threads, untold
from edgedistill.documents.build_file import AugmentationConfig

STAGE: Final = "decoded"
PIXELS: Final = "pixels.rgb"
SIZES: Final = "sizes.npy"
STEP: Final = 32
"""Sides are multiples of it: a model that is a little larger finds what the teacher said of the same copies."""
COMMIT_SECONDS: Final = 5.0
_CHUNK: Final = 256
_SAMPLE: Final = 64

Sizes = NDArray[np.int32]


def working_side(resolution: int, augmentation: AugmentationConfig) -> int:
    """The shorter side of an image, in pixels, at which every crop that `augmentation` allows has the pixels of a model at
    `resolution`, in width and in height."""
    narrowest = min(*augmentation.ratio, *(1 / ratio for ratio in augmentation.ratio))
    return STEP * math.ceil(resolution / math.sqrt(min(augmentation.scale) * narrowest) / STEP)


def shrunk(image: Pixels, side: int) -> Pixels:
    """uint8 [H, W, 3] with its shorter side at most `side`, its aspect kept; a smaller one as it is."""
    height, width, _ = image.shape
    shorter = min(height, width)
    if shorter <= side:
        return image
    size = (round(width * side / shorter), round(height * side / shorter))
    # Views are resized once more: of Pillow's filters, Lanczos leaves them as sharp as views of the image itself. The gap
    # lets whole pixels be averaged first, which changes little and is three times as fast.
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def has_room(store: Store, expected_bytes: int, limit_bytes: int, what: str, once: str) -> bool:
    """Whether images of so many bytes may be kept: by the limit of the build file, and by the disk. A note, told `once`,
    says where not."""
    free = shutil.disk_usage(store.root).free
    if expected_bytes <= min(limit_bytes, free):
        return True
    limit = f"[data] decoded_cache ({format_bytes(limit_bytes)})" if limit_bytes < free else "the free disk"
    text = f"{format_bytes(expected_bytes)} of {what} are more than {limit}"
    store.listener(Note(f"{text}: each is decoded whenever it is needed", once=once))
    return False


@dataclass(frozen=True, eq=False)
class WorkingImages:
    """The images of a data set as views are cropped from them: those at `train` as working copies of `side`, the others as
    they are. `folder` holds the copies that are kept, None where they are made when they are asked for."""

    images: ImageSource
    train: Indices
    side: int
    folder: Path | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Pixels:
        row = int(np.searchsorted(self.rising, index))
        if row == len(self.rising) or self.rising[row] != index:
            return self.images[index]
        if self.folder is None:
            return shrunk(self.images[index], self.side)
        pixels, sizes, ends = self._map
        height, width = sizes[row].tolist()
        end = int(ends[row])
        return pixels[end - height * width * 3 : end].reshape(height, width, 3)

    @property
    def decoded(self) -> bool:
        """Whether the copies are kept."""
        return self.folder is not None

    @cached_property
    def rising(self) -> Indices:
        """The indices that have copies, in the order in which they are kept."""
        return np.unique(self.train)

    @cached_property
    def _map(self) -> tuple[Pixels, Sizes, Indices]:
        assert self.folder is not None
        sizes: Sizes = np.load(self.folder / SIZES)
        # A plain array over the map: slices of a `memmap` cost more than some crops do.
        pixels = np.memmap(self.folder / PIXELS, np.uint8, mode="r").view(np.ndarray)
        return pixels, sizes, np.cumsum(_bytes_of(sizes))

    def __getstate__(self) -> dict[str, object]:
        """Without the open memory map: another process opens its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_map"}


@dataclass(frozen=True, eq=False)
class CopyMaker:
    """Keeps the working copies that `plain` makes, as a stage of `store` under `key`. While images are decoded, `turn` is
    held."""

    store: Store
    key: str
    plain: WorkingImages
    subject: str
    turn: Callable[[], AbstractContextManager[None]] = nullcontext

    def make(self, limit_bytes: int) -> None:
        """Make the copies, if they are not there: by all processors, going on from where a killed run was. Where they would
        take more than `limit_bytes` or than the disk has left, they are not made, and a note says so. Raises InputError for
        an image that can no longer be read."""
        if self.store.find(STAGE, self.key) is None and not self._fits(limit_bytes):
            return
        total = len(self.plain.rising)
        self.store.stage(STAGE, self.key, self._fill, subject=self.subject, total=total, resumable=True)

    def _fits(self, limit_bytes: int) -> bool:
        with self.turn():
            expected = self.expected_bytes()
        return has_room(self.store, expected, limit_bytes, "decoded training images", self.key)

    def expected_bytes(self) -> int:
        """What the copies will take on the disk, by a few images spread evenly over them."""
        indices = self.plain.rising
        rows = np.unique(np.linspace(0, len(indices) - 1, _SAMPLE).astype(np.int64))
        found = list(in_threads(lambda index: self.plain[index].nbytes, indices[rows].tolist(), untold))
        return sum(found) * len(indices) // len(found)

    def _fill(self, folder: Path) -> None:
        """The sizes are written after the pixels that they count are on the disk, so that what a kill leaves beyond them is
        cut off and made again."""
        indices, sizes = self.plain.rising, _committed(folder)
        with self.turn(), (folder / PIXELS).open("r+b" if sizes else "wb") as stream:
            stream.truncate(int(_bytes_of(np.array(sizes, np.int32).reshape(-1, 2)).sum()))
            stream.seek(0, os.SEEK_END)
            committed_at = time.monotonic()
            # In chunks, so that what a slow disk has not taken yet does not pile up in memory.
            for start in range(len(sizes), len(indices), _CHUNK):
                self.store.listener(StageAdvanced(STAGE, start, len(indices)))
                chosen = indices[start : start + _CHUNK].tolist()
                with closing(in_threads(self.plain.__getitem__, chosen, untold)) as copies:
                    for copy in copies:
                        stream.write(copy.tobytes())
                        sizes.append((copy.shape[0], copy.shape[1]))
                if time.monotonic() - committed_at >= COMMIT_SECONDS:
                    _commit(stream, folder, sizes)
                    committed_at = time.monotonic()
            _commit(stream, folder, sizes)


def _bytes_of(sizes: Sizes) -> Indices:
    return 3 * sizes[:, 0].astype(np.int64) * sizes[:, 1]


def _commit(stream: BinaryIO, folder: Path, sizes: Sequence[tuple[int, int]]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
    with whole(folder / SIZES) as temporary:
        np.save(temporary, np.array(sizes, np.int32))


def _committed(folder: Path) -> list[tuple[int, int]]:
    """Heights and widths of the copies that a killed run is known to have left whole."""
    try:
        sizes: Sizes = np.load(folder / SIZES)
        enough = (folder / PIXELS).stat().st_size >= _bytes_of(sizes).sum()
    except (OSError, ValueError):
        return []
    return [(height, width) for height, width in sizes.tolist()] if enough else []
