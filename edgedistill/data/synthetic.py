"""Images that show nothing, for what has to be run and measured before there are any: smooth patches of random colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from edgedistill.base.store import digest
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Pixels
from edgedistill.data.splits import Splits

_VERSION: Final = 1
_PATCHES: Final = 8


@dataclass(frozen=True)
class SyntheticImages:
    """`count` RGB images of `side` pixels, each from its index and the seed: 8 x 8 random colours, interpolated. Their
    values fill 0..255 and are alike in neighbouring pixels, as those of photographs are. Drawn from PCG64's raw stream,
    which numpy promises never to change."""

    count: int
    side: int
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Pixels:
        bits = np.random.PCG64(np.random.SeedSequence([self.seed, index]))
        colours = bits.random_raw(_PATCHES * _PATCHES * 3).astype(np.uint8).reshape(_PATCHES, _PATCHES, 3)
        image = Image.fromarray(colours).resize((self.side, self.side), Image.Resampling.BICUBIC)
        return np.asarray(image)

    @property
    def decoded(self) -> bool:
        return False


def synthetic_dataset(classes: int, train: int, validation: int, side: int, seed: int = 0) -> Dataset:
    """A data set of such images with `classes` names and labels in turn, and no test split."""
    count = train + validation
    indices = np.arange(count, dtype=np.int64)
    return Dataset(
        name="synthetic images",
        classes=tuple(f"class {number}" for number in range(classes)),
        labels=indices % classes,
        images=SyntheticImages(count, side, seed),
        splits=Splits(indices[:train], indices[train:], np.empty(0, np.int64), None),
        fingerprint=digest({"synthetic": _VERSION, "count": count, "side": side, "seed": seed, "classes": classes}),
    )
