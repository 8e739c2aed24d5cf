"""The making of a teacher's StoredSignal, view index by view index, by one process or several."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import torch

from edgedistill.base.progress import Listener, StageAdvanced
from edgedistill.base.store import BusyError, Store, digest, stage_key, write_atomic
from edgedistill.data.augment import AUGMENTATION_VERSION
from edgedistill.distill.stored.signals import HEADER, StoredSignal, file_name
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.teacher import Crossfit, Teacher
from edgedistill.documents.recipes import LOGITS

STAGE: Final = "signals"
PART_STAGE: Final = "signal"
"""A view index' file, until all of them are whole."""
FORMAT_VERSION: Final = 3
_CODE: Final = (
    "edgedistill.data.augment",
    "edgedistill.data.images",
    "edgedistill.data.preprocessing",
    "edgedistill.data.views",
    "edgedistill.distill.recipes.taps",
    "edgedistill.distill.stored.encoding",
    "edgedistill.distill.teachers.labelling",
)
_TOOLS: Final = ("numpy", "pillow", "torch")


def signal_key(
    teacher: Teacher,
    views: StoredViews,
    tap: str,
    crossfit: Crossfit | None = None,
    autocast: torch.dtype | None = None,
) -> str:
    """Hash of all that it depends on: teacher and its contract, the views, the tap, the precision, the code and the
    libraries that render and compute."""
    return stage_key(
        {
            "format": FORMAT_VERSION,
            "operations": AUGMENTATION_VERSION,
            "teacher": teacher.key,
            "contract": teacher.contract.model_dump(mode="json"),
            "views": views.key,
            "tap": tap,
            "crossfit": crossfit.key if crossfit else None,
            "autocast": str(autocast),
        },
        code=_CODE,
        tools=_TOOLS,
    )


Ahead = Callable[[bool], None]
"""Does view indices, in whatever process, before their maker needs them: all of them, or, told False, those that no other
process is at."""


@dataclass(frozen=True, eq=False)
class Labelling:
    """The making of StoredSignal, view index by view index. Each is a stage that any process may do, with the same result;
    the whole is put together from them. While one is labelled, `turn` is held."""

    store: Store
    labeller: Labeller
    listener: Listener
    turn: Callable[[], AbstractContextManager[None]] = nullcontext

    @cached_property
    def key(self) -> str:
        """Of the whole."""
        labeller = self.labeller
        return signal_key(labeller.teacher, labeller.views, labeller.tap, labeller.crossfit, labeller.autocast)

    @property
    def subject(self) -> str:
        """What progress calls it."""
        name, tap = self.labeller.teacher.name, self.labeller.tap
        return name if tap == LOGITS else f"{name}, {tap}"

    @property
    def views(self) -> range:
        """The view indices."""
        return range(self.labeller.views.count)

    @property
    def total(self) -> int:
        """Records of the whole."""
        return len(self.views) * self.labeller.images

    def view(self, view: int, *, wait: bool = True) -> Path:
        """The folder with the file of a view index: found, or made. A killed run is taken up where it was last synced.
        Raises BusyError where another process is at it and `wait` is off, and what `Labeller.label` does."""
        if whole := self.store.find(STAGE, self.key):
            return whole
        make = partial(self._make_view, view)
        subject = f"{self.subject}, {view + 1} of {len(self.views)}"
        return self.store.stage(PART_STAGE, self._view_key(view), make, subject=subject, resumable=True, wait=wait)

    def build(self, ahead: Ahead | None = None) -> StoredSignal:
        """The signal: found, or made, one view index after the other but for those that `ahead` has done. Where another
        process is at it, `ahead` helps before it is waited for."""
        stage = partial(
            self.store.stage,
            STAGE,
            self.key,
            partial(self._make, ahead),
            subject=self.subject,
            total=self.total,
        )
        try:
            folder = stage(wait=False)
        except BusyError:
            if ahead is not None:
                ahead(False)
            folder = stage()
        for view in self.views:
            self.store.drop(PART_STAGE, self._view_key(view))
        return StoredSignal.open(folder)

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
            made = self.store.find(PART_STAGE, self._view_key(view)) or self.view(view)
            _link(made / file_name(view), folder)
        labeller = self.labeller
        header = {
            "tap": labeller.tap,
            "views": labeller.views.key,
            "images": labeller.images,
            "width": labeller.encoding.width,
            "record_bytes": labeller.encoding.record.itemsize,
            "teacher": labeller.teacher.name,
            "teacher_key": labeller.teacher.key,
        }
        write_atomic(folder / HEADER, json.dumps(header, indent=1))


def _link(file: Path, folder: Path) -> None:
    """`file` in `folder` too: on the disk once, or as a copy where the file system knows no second names."""
    target = folder / file.name
    try:
        target.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, target)
