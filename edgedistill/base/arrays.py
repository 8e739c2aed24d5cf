"""Arrays that images and answers are in."""

from __future__ import annotations

import zipfile
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


Logits = NDArray[np.float32]

UNREADABLE: Final = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy.load raises for a file that is cut off, damaged or of another kind."""
