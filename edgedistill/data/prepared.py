"""Images as networks are judged by them: prepared once for each part of the data and each contract, and then read.

A teacher is judged after every epoch of its fit, a student at every rung, and every file that is made of it. To decode a
photograph takes far longer than any of them takes to look at it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from edgedistill.base.progress import Listener, StageAdvanced
from edgedistill.base.store import digest, stage_key
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import prepare, resize
from edgedistill.data.sources import ImageSource, Indices, Pixels
from edgedistill.data.threads import in_threads, untold
from edgedistill.data.working import WorkingImages, has_room
from edgedistill.documents.specs import Contract

STAGE: Final = "prepared"
PIXELS: Final = "pixels.chw"
_DECIDE_PIXELS: Final = {"color", "orientation", "background", "resolution", "resize_filter", "antialias", "crop"}
_CHUNK: Final = 256


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """The images at `indices` through a contract: uint8 [n, 3, R, R], of which slices come into memory. They are read from
    the file `kept`, or prepared whenever they are asked for where there is none."""

    images: ImageSource
    indices: Indices
    contract: Contract
    kept: Path | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice, /) -> Pixels:
        if self.kept is None:
            return prepare(self.images, self.indices[rows], self.contract)
        side = self.contract.resolution
        # A copy of these rows: torch warns of arrays that cannot be written.
        return np.array(np.memmap(self.kept, np.uint8, mode="r", shape=(len(self), 3, side, side))[rows])


def prepared(dataset: Dataset, indices: Indices, contract: Contract) -> PreparedImages:
    """The images at `indices`, never their working copies, through `contract`. They are kept where `dataset.keeping` says
    so: found, or made now by all processors. Images that are decoded already are not: to resize them takes little. A note
    tells where there is no room. Raises InputError for an image that can no longer be read."""
    images = dataset.images.images if isinstance(dataset.images, WorkingImages) else dataset.images
    plain, keeping = PreparedImages(images, indices, contract), dataset.keeping
    if keeping is None or not keeping.limit_bytes or images.decoded or not len(indices):
        return plain
    key = _key(dataset, indices, contract)
    store, folder = keeping.store, keeping.store.find(STAGE, key)
    if folder is None:
        expected_bytes = len(indices) * 3 * contract.resolution**2
        if not has_room(store, expected_bytes, keeping.limit_bytes, "prepared images", key):
            return plain
        subject = f"{len(indices):,} images at {contract.resolution} pixels"
        fill = partial(_fill, plain, store.listener)
        folder = store.stage(STAGE, key, fill, subject=subject, total=len(indices))
    return replace(plain, kept=folder / PIXELS)


def _key(dataset: Dataset, indices: Indices, contract: Contract) -> str:
    return stage_key(
        {
            "data": dataset.fingerprint,
            "indices": digest(indices.tolist()),
            "contract": contract.model_dump(mode="json", include=_DECIDE_PIXELS),
        },
        code=("edgedistill.data.prepared",),
        tools=("numpy", "pillow"),
    )


def _fill(plain: PreparedImages, listener: Listener, folder: Path) -> None:
    def one(index: int) -> Pixels:
        return resize(plain.images[index], plain.contract)

    with (folder / PIXELS).open("wb") as stream:
        # In chunks, so that what a slow disk has not taken yet does not pile up in memory.
        for start in range(0, len(plain), _CHUNK):
            listener(StageAdvanced(STAGE, start, len(plain)))
            with closing(in_threads(one, plain.indices[start : start + _CHUNK].tolist(), untold)) as rows:
                for row in rows:
                    stream.write(row.tobytes())
