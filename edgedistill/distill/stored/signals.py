"""What a teacher says of stored views, computed once, shared by every candidate and build.

That teacher and student see the same view is what makes distillation work (FunMatch). How many stored views do as well as
fresh ones depends on the epochs: for 300 and more, 50 did as well as 400 (dataset reinforcement,
https://arxiv.org/abs/2303.08983). One file a view index, of records of fixed size, memory-mapped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.data.sources import Indices
from edgedistill.distill.stored.encoding import Encoding, encoding_of

HEADER: Final = "signal.json"


@dataclass(frozen=True)
class StoredSignal:
    """What a teacher gives at `tap` on StoredViews, in a finished stage's folder. Rows are read from disk when they are
    used."""

    tap: str
    folder: Path
    images: int
    encoding: Encoding

    @classmethod
    def open(cls, folder: Path) -> StoredSignal:
        """That in a finished stage's folder."""
        header = json.loads((folder / HEADER).read_text())
        return cls(header["tap"], folder, header["images"], encoding_of(header["tap"], header["width"]))

    @property
    def key(self) -> str:
        """What identifies it: all that it depends on."""
        return self.folder.name

    @property
    def width(self) -> int:
        """Numbers of an image."""
        return self.encoding.width

    def at(self, view: int, positions: Indices) -> NDArray[np.float16]:
        """Of view index `view` of the images at `positions` [n] of the training split: float16 [n, width], logits shifted so
        that the largest of a row is 0."""
        return self.encoding.decode(self._records(view)[positions])

    def stated_errors(self, views: int) -> NDArray[np.float32] | None:
        """Of each image in each of `views` view indices [views, n]: see `Encoding.stated_error`."""
        errors = [self.encoding.stated_error(self._records(view)) for view in range(views)]
        known = [error for error in errors if error is not None]
        return np.stack(known) if known else None

    def _records(self, view: int) -> NDArray[np.void]:
        return np.memmap(self.folder / file_name(view), self.encoding.record, mode="r", shape=(self.images,))


def file_name(view: int) -> str:
    """The file of a view index."""
    return f"signal-{view:04d}.records"


def part_name(number: int, view: int) -> str:
    """The file of a view index and the tap of that number, of several that are made together."""
    return f"{number}-{file_name(view)}"
