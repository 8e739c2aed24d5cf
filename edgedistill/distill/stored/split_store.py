"""What students learn from: stored views, and beside them what a teacher said of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.store import digest
from edgedistill.data.sources import Indices
from edgedistill.data.views import Views
from edgedistill.distill.stored.mixing import Signal
from edgedistill.distill.stored.views import StoredViews


@dataclass(frozen=True)
class SplitStore:
    """Views of a training split, and what a teacher, or several, gave on them at each tap that was asked for. Epoch e is
    that of view index e modulo their number. `kept` is the file of the positions that are learnt from, where not all are."""

    stored_views: StoredViews
    signals: tuple[Signal, ...] = ()
    kept: Path | None = None

    @property
    def key(self) -> str:
        """What identifies what is learnt from."""
        kept = None if self.kept is None else self.kept.parent.name
        return digest([self.stored_views.key, {signal.tap: signal.key for signal in self.signals}, kept])

    def positions(self) -> Indices:
        """Those of the training split that are learnt from, rising."""
        if self.kept is None:
            return np.arange(self.stored_views.images, dtype=np.int64)
        kept: Indices = np.load(self.kept)
        return kept

    def signal(self, tap: str) -> Signal | None:
        """That of a tap; None where it was not asked for."""
        return next((signal for signal in self.signals if signal.tap == tap), None)

    def views(self, epoch: int) -> Views:
        """Of every training image, VIEW_DTYPE [n]."""
        return self.stored_views.at(epoch % self.stored_views.count)

    def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
        """By tap, rows [len(positions), width] of the images at those positions of the split, in that epoch's views."""
        view = epoch % self.stored_views.count
        return {signal.tap: signal.at(view, positions) for signal in self.signals}
