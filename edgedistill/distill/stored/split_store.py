"""What students learn from: stored views, and beside them what a teacher said of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.store import digest
from edgedistill.data.sources import Indices
from edgedistill.data.views import Views
from edgedistill.distill.stored.logits import StoredLogits
from edgedistill.distill.stored.views import StoredViews


@dataclass(frozen=True)
class SplitStore:
    """Views of a training split, and a teacher's logits on them where one was asked. Epoch e is that of view index e modulo
    their number."""

    stored_views: StoredViews
    logits: StoredLogits | None = None

    @property
    def key(self) -> str:
        """What identifies what is learnt from."""
        return digest([self.stored_views.key, self.logits.key if self.logits else None])

    def views(self, epoch: int) -> Views:
        """Of every training image, VIEW_DTYPE [n]."""
        return self.stored_views.at(epoch % self.stored_views.count)

    def teacher(self, epoch: int, positions: Indices) -> NDArray[np.float16] | None:
        """Logits [len(positions), classes] of the images at those positions of the split, in that epoch's views."""
        return None if self.logits is None else self.logits.at(epoch % self.stored_views.count, positions)
