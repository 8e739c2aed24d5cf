"""Arrays that images and answers are in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


Logits = NDArray[np.float32]
