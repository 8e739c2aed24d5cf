"""Arrays that images and answers are in."""

from __future__ import annotations

import zipfile
import zlib
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


class ImageRows(Protocol):
    """Images, uint8 [n, 3, R, R], of which slices are looked at: an array, or what need not lie in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Images: ...


UNREADABLE: Final = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy.load raises for a file that is cut off, damaged or of another kind."""
