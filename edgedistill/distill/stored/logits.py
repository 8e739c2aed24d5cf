"""A teacher's logits on stored views, computed once, shared by every candidate and build.

That teacher and student see the same view is what makes distillation work (FunMatch), and a few dozen stored views an
image match as many fresh ones (dataset reinforcement, https://arxiv.org/abs/2303.08983). One file a view index, of records
of fixed size, memory-mapped.
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

HEADER: Final = "logits.json"


@dataclass(frozen=True)
class StoredLogits:
    """A teacher's logits on StoredViews, in a finished stage's folder. Rows are read from disk when they are used."""

    folder: Path
    images: int
    encoding: Encoding

    @classmethod
    def open(cls, folder: Path) -> StoredLogits:
        """Those in a finished stage's folder."""
        header = json.loads((folder / HEADER).read_text())
        return cls(folder, header["images"], encoding_of(header["classes"]))

    @property
    def key(self) -> str:
        """What identifies them: all that they depend on."""
        return self.folder.name

    def at(self, view: int, positions: Indices) -> NDArray[np.float16]:
        """Of view index `view` of the images at `positions` [n] of the training split: float16 [n, classes], shifted so that
        the largest of a row is 0."""
        path = self.folder / file_name(view)
        records = np.memmap(path, self.encoding.record, mode="r", shape=(self.images,))
        return self.encoding.decode(records[positions])


def file_name(view: int) -> str:
    """The file of a view index."""
    return f"logits-{view:04d}.records"
