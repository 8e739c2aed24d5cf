"""The views of a training split: drawn once from data and augmentation, stored, and shared by all that is taught on them.

Drawing costs nothing, but a seed may replay differently after an update of numpy, and what a teacher said of a view belongs
to that view alone. One file a view index, memory-mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgedistill.base.store import Store, stage_key
from edgedistill.data.augment import AUGMENTATION_VERSION
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Indices
from edgedistill.data.views import VIEW_DTYPE, Views, draw_views
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.lengths import views_of

STAGE: Final = "views"
_CODE: Final = ("edgedistill.data.views", "edgedistill.data.working")
_TOOLS: Final = ("numpy",)


@dataclass(frozen=True)
class StoredViews:
    """`count` views of each of `images` training images, in a finished stage's folder: of their working copies of `side`, of
    the images as they are where that is None."""

    folder: Path
    count: int
    images: int
    side: int | None = None

    @property
    def key(self) -> str:
        """What identifies them: all that they depend on."""
        return self.folder.name

    def at(self, view: int) -> Views:
        """View index `view` of all images, VIEW_DTYPE [images], in the order of the training split: a read-only memory
        map."""
        if not 0 <= view < self.count:
            raise IndexError(f"view {view} of {self.count}")
        return np.memmap(self.folder / _file_name(view), VIEW_DTYPE, mode="r", shape=(self.images,))


def stored_views(
    store: Store,
    dataset: Dataset,
    augmentation: AugmentationConfig,
    side: int | None = None,
    groups: Indices | None = None,
) -> StoredViews:
    """The views of `dataset`'s training split under `augmentation`: found in `store`, or drawn there. Their key, and with it
    that of all that is made from them, holds the `side` of the working copies that they are views of, and the `groups` of
    images that are mixed with their like alone."""
    images = len(dataset.splits.train)
    count = views_of(augmentation.views, images)
    key = stage_key(
        {
            "operations": AUGMENTATION_VERSION,
            "data": dataset.fingerprint,
            "train": dataset.splits.train.tolist(),
            "augmentation": augmentation.model_dump(mode="json") | {"views": count},
            "side": side,
            "groups": None if groups is None else groups.tolist(),
        },
        code=_CODE,
        tools=_TOOLS,
    )

    def make(folder: Path) -> None:
        for view in range(count):
            draw_views(images, augmentation, view, groups).tofile(folder / _file_name(view))

    return StoredViews(store.stage(STAGE, key, make, subject=dataset.name), count, images, side)


def _file_name(view: int) -> str:
    return f"view-{view:04d}.records"
