"""The view store: augmented views with the teacher's outputs on them, computed once, shared by every candidate and build.

Stored are (view, output) pairs, not (image, output): that teacher and student see the same view is what makes
distillation work (FunMatch), and a few dozen stored views an image match as many fresh ones (dataset reinforcement,
https://arxiv.org/abs/2303.08983). One file a view index, of records of fixed size, memory-mapped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.progress import Listener, StageAdvanced, silent
from edgedistill.base.store import BusyError, Store, digest, stage_key, write_atomic
from edgedistill.data.augment import AUGMENTATION_VERSION
from edgedistill.data.datasets import Dataset
from edgedistill.data.views import Views
from edgedistill.distill.teachers.labelling import Labeller, file_name, record_dtype
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import AugmentationConfig

STAGE: Final = "views"
VIEW_STAGE: Final = "view"
"""A view index' file, until all of them are a view store."""
FORMAT_VERSION: Final = 1
_HEADER: Final = "store.json"
_CODE: Final = (
    "edgedistill.data.augment",
    "edgedistill.data.images",
    "edgedistill.data.preprocessing",
    "edgedistill.data.views",
    "edgedistill.distill.teachers.view_store",
    "edgedistill.distill.teachers.labelling",
)
_TOOLS: Final = ("numpy", "pillow", "torch")


@dataclass(frozen=True)
class ViewStore:
    """A finished view store. Arrays are read-only memory maps: rows are read from disk when they are used."""

    folder: Path
    view_count: int
    images: int
    classes: int

    @classmethod
    def open(cls, folder: Path) -> ViewStore:
        """The store in a finished stage's folder."""
        header = json.loads((folder / _HEADER).read_text())
        return cls(folder, header["views"], header["images"], header["classes"])

    def views(self, view: int) -> Views:
        """Views VIEW_DTYPE [n_train] of view index `view`, in the order of the training split."""
        parameters: Views = self._records(view)["view"]
        return parameters

    def logits(self, view: int) -> NDArray[np.float16]:
        """The teacher's logits on those views, float16 [n_train, classes], shifted so that the largest of a row is 0.

        A shift changes no probability at any temperature. It puts float16's finest steps where the probability is, and
        leaves only what has none (below e^-65504) to be clipped at the end of the range.
        """
        logits: NDArray[np.float16] = self._records(view)["logits"]
        return logits

    def _records(self, view: int) -> NDArray[np.void]:
        if not 0 <= view < self.view_count:
            raise IndexError(f"view {view} of {self.view_count}")
        return np.memmap(self.folder / file_name(view), record_dtype(self.classes), mode="r", shape=(self.images,))


def view_store_key(teacher: Teacher, dataset: Dataset, augmentation: AugmentationConfig) -> str:
    """Hash of all that the store's content depends on: teacher and its contract, training images in order, augmentation,
    the code and the libraries that render and compute."""
    return stage_key(
        {
            "format": FORMAT_VERSION,
            "operations": AUGMENTATION_VERSION,
            "teacher": teacher.key,
            "contract": teacher.contract.model_dump(mode="json"),
            "data": dataset.fingerprint,
            "train": dataset.splits.train.tolist(),
            "augmentation": augmentation.model_dump(mode="json"),
        },
        code=_CODE,
        tools=_TOOLS,
    )


Ahead = Callable[[bool], None]
"""Does views of a store, in whatever process, before its maker needs them: all of them, or, told False, those that no other
process is at."""


@dataclass(frozen=True, eq=False)
class Labelling:
    """The making of a view store, view by view. Each view is a stage that any process may do, with the same result; the
    store is put together from them. While a view is labelled, `turn` is held."""

    store: Store
    labeller: Labeller
    listener: Listener
    turn: Callable[[], AbstractContextManager[None]] = nullcontext

    @cached_property
    def key(self) -> str:
        """The view store's."""
        return view_store_key(self.labeller.teacher, self.labeller.dataset, self.labeller.augmentation)

    @property
    def views(self) -> range:
        """The view indices of the store."""
        return range(self.labeller.augmentation.views)

    @property
    def total(self) -> int:
        """Records of the store."""
        return len(self.views) * self.labeller.images

    def view(self, view: int, *, wait: bool = True) -> Path:
        """The folder with the file of a view index: found, or made. A killed run is taken up where it was last synced.
        Raises BusyError where another process is at it and `wait` is off, and what `Labeller.label` does."""
        if whole := self.store.find(STAGE, self.key):
            return whole
        make = partial(self._make_view, view)
        subject = f"{self.labeller.teacher.name}, {view + 1} of {len(self.views)}"
        return self.store.stage(VIEW_STAGE, self._view_key(view), make, subject=subject, resumable=True, wait=wait)

    def build(self, ahead: Ahead | None = None) -> ViewStore:
        """The view store: found, or made, one view after the other but for those that `ahead` has done. Where another
        process is at it, `ahead` helps before it is waited for."""
        stage = partial(
            self.store.stage,
            STAGE,
            self.key,
            partial(self._make, ahead),
            subject=self.labeller.teacher.name,
            total=self.total,
        )
        try:
            folder = stage(wait=False)
        except BusyError:
            if ahead is not None:
                ahead(False)
            folder = stage()
        for view in self.views:
            self.store.drop(VIEW_STAGE, self._view_key(view))
        return ViewStore.open(folder)

    def _view_key(self, view: int) -> str:
        return digest([self.key, view])

    def _make_view(self, view: int, folder: Path) -> None:
        if whole := self.store.find(STAGE, self.key):  # put together, and its views dropped, since it was looked for
            for left in folder.iterdir():
                left.unlink()
            _link(whole / file_name(view), folder)
            return

        def on_progress(done: int) -> None:
            self.listener(StageAdvanced(STAGE, view * self.labeller.images + done, self.total))

        with self.turn():
            self.labeller.label(folder, view, on_progress)

    def _make(self, ahead: Ahead | None, folder: Path) -> None:
        if ahead is not None:
            ahead(True)
        for view in self.views:
            made = self.store.find(VIEW_STAGE, self._view_key(view)) or self.view(view)
            _link(made / file_name(view), folder)
        labeller = self.labeller
        header = {
            "views": len(self.views),
            "images": labeller.images,
            "classes": labeller.classes,
            "record_bytes": record_dtype(labeller.classes).itemsize,
            "teacher": labeller.teacher.name,
            "teacher_key": labeller.teacher.key,
            "data": labeller.dataset.fingerprint,
            "augmentation": labeller.augmentation.model_dump(mode="json"),
        }
        write_atomic(folder / _HEADER, json.dumps(header, indent=1))


def build_view_store(store: Store, labeller: Labeller, listener: Listener = silent) -> ViewStore:
    """The view store of a teacher, data and augmentation: found in `store`, or made there by this process alone.

    A killed run is taken up where it was last synced to disk, at most `commit_seconds` and one batch earlier. Raises
    InputError where the teacher's outputs are not one finite logit a class, UnsupportedError for a device that is not here.
    """
    return Labelling(store, labeller, listener).build()


def _link(file: Path, folder: Path) -> None:
    """`file` in `folder` too: on the disk once, or as a copy where the file system knows no second names."""
    target = folder / file.name
    try:
        target.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, target)
