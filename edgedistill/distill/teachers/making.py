"""The making of a teacher's StoredSignals, view index by view index, by one process or several."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import torch

from edgedistill.base.machine import freed_memory_kept
from edgedistill.base.progress import Listener, StageAdvanced
from edgedistill.base.store import BusyError, Store, digest, stage_key, write_atomic
from edgedistill.data.augment import AUGMENTATION_VERSION
from edgedistill.distill.stored.signals import HEADER, StoredSignal, file_name, part_name
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.teacher import Crossfit, Teacher
from edgedistill.documents.recipes import LOGITS

STAGE: Final = "signals"
PART_STAGE: Final = "signal"
"""A view index' files, one a tap, until all view indices are done."""
FORMAT_VERSION: Final = 4
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
            "contract": teacher.contract.computed,
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
    """The making of a StoredSignal for each tap of `labeller`, view index by view index, all taps in one pass of the
    teacher. A view index is a stage that any process may do, with the same result; the signals are put together from them.
    While one is labelled, `turn` is held."""

    store: Store
    labeller: Labeller
    listener: Listener
    turn: Callable[[], AbstractContextManager[None]] = nullcontext

    @cached_property
    def keys(self) -> dict[str, str]:
        """Of the signals, by tap."""
        labeller = self.labeller
        return {
            tap: signal_key(labeller.teacher, labeller.views, tap, labeller.crossfit, labeller.autocast)
            for tap in labeller.taps
        }

    @property
    def subject(self) -> str:
        """What progress calls it."""
        name, taps = self.labeller.teacher.name, self.labeller.taps
        return name if taps == (LOGITS,) else f"{name}, {', '.join(taps)}"

    @property
    def views(self) -> range:
        """The view indices."""
        return range(self.labeller.views.count)

    @property
    def total(self) -> int:
        """Images of all view indices."""
        return len(self.views) * self.labeller.images

    def left(self) -> Labelling:
        """The making of those signals that the cache does not have yet."""
        taps = tuple(tap for tap, key in self.keys.items() if self.store.find(STAGE, key) is None)
        return replace(self, labeller=replace(self.labeller, taps=taps))

    def view(self, view: int, *, wait: bool = True) -> None:
        """Have the files of a view index: found, or made. A killed run is taken up where it was last synced. Raises
        BusyError where another process is at it and `wait` is off, and what `Labeller.label` does."""
        if self._wholes() is None:
            self._part(view, wait=wait)

    def build(self, ahead: Ahead | None = None) -> tuple[StoredSignal, ...]:
        """The signals in the order of the taps: found, or made, one view index after the other but for those that `ahead`
        has done. Where another process is at it, `ahead` helps before it is waited for."""
        left = self.left()
        folders = [(left if tap in left.keys else self)._put_together(tap, ahead) for tap in self.keys]
        for view in self.views:
            self.store.drop(PART_STAGE, left._view_key(view))
        return tuple(StoredSignal.open(folder) for folder in folders)

    def _wholes(self) -> list[Path] | None:
        """The folders of the signals; None unless all are there."""
        found = [self.store.find(STAGE, key) for key in self.keys.values()]
        return None if None in found else [folder for folder in found if folder is not None]

    def _view_key(self, view: int) -> str:
        return digest([*self.keys.values(), view])

    def _part(self, view: int, *, wait: bool = True) -> Path:
        make = partial(self._make_view, view)
        subject = f"{self.subject}, {view + 1} of {len(self.views)}"
        return self.store.stage(PART_STAGE, self._view_key(view), make, subject=subject, resumable=True, wait=wait)

    def _make_view(self, view: int, folder: Path) -> None:
        if wholes := self._wholes():  # put together, and its views dropped, since it was looked for
            for left in folder.iterdir():
                left.unlink()
            for number, whole in enumerate(wholes):
                _link(whole / file_name(view), folder / part_name(number, view))
            return

        def on_progress(done: int) -> None:
            self.listener(StageAdvanced(STAGE, view * self.labeller.images + done, self.total))

        with self.turn(), freed_memory_kept():
            self.labeller.label(folder, view, on_progress)

    def _put_together(self, tap: str, ahead: Ahead | None) -> Path:
        subject = self.labeller.teacher.name if tap == LOGITS else f"{self.labeller.teacher.name}, {tap}"
        make = partial(self._make, tap, ahead)
        stage = partial(self.store.stage, STAGE, self.keys[tap], make, subject=subject, total=self.total)
        try:
            return stage(wait=False)
        except BusyError:
            if ahead is not None:
                ahead(False)
            return stage()

    def _make(self, tap: str, ahead: Ahead | None, folder: Path) -> None:
        if ahead is not None and any(self._found(view) is None for view in self.views):
            ahead(True)
        number = self.labeller.taps.index(tap)
        for view in self.views:
            _link((self._found(view) or self._part(view)) / part_name(number, view), folder / file_name(view))
        labeller, encoding = self.labeller, self.labeller.encodings[tap]
        header = {
            "tap": tap,
            "views": labeller.views.key,
            "images": labeller.images,
            "width": encoding.width,
            "record_bytes": encoding.record.itemsize,
            "teacher": labeller.teacher.name,
            "teacher_key": labeller.teacher.key,
        }
        write_atomic(folder / HEADER, json.dumps(header, indent=1))

    def _found(self, view: int) -> Path | None:
        return self.store.find(PART_STAGE, self._view_key(view))


def _link(file: Path, target: Path) -> None:
    """`file` as `target` too: on the disk once, or as a copy where the file system knows no second names."""
    try:
        target.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, target)
