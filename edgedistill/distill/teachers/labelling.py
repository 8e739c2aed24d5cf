"""One view index' files, one a tap: what the teacher gives there for that view of every training image, in records of fixed
size. One pass of the teacher fills all of them.

Rendered in threads ahead of the teacher and synced every few seconds, so that a killed run is taken up where it was.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import write_atomic
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Indices, Pixels
from edgedistill.data.views import Views, render_batch
from edgedistill.distill.hardware import choose_device
from edgedistill.distill.pace import Pace, thread_counts
from edgedistill.distill.recipes.taps import as_rows, tap_width, tapped
from edgedistill.distill.stored.encoding import LOWEST, Encoding, encoding_of
from edgedistill.distill.stored.signals import part_name
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.teacher import Crossfit, Teacher
from edgedistill.documents.recipes import LOGITS
from edgedistill.networks.threads import own_threads

Rows: TypeAlias = dict[str, NDArray[np.float32]]
"""By tap [n, width], a row an image."""


@dataclass(frozen=True)
class Labeller:
    """A teacher at the stored `views` of one data set, asked for what it gives at `taps`. `device` is what `[train] device`
    names, `autocast` the type of matrix products, None for float32 throughout; `workers` threads render ahead of the
    teacher; what was done is synced every `commit_seconds`. `threads` are torch's on the CPU; `listener` hears how many are
    chosen. With `crossfit` its teachers label their folds."""

    teacher: Teacher
    dataset: Dataset
    views: StoredViews
    taps: tuple[str, ...] = (LOGITS,)
    batch_size: int = 256
    device: str = "auto"
    autocast: torch.dtype | None = None
    workers: int = 1
    commit_seconds: float = 2.0
    threads: int | Literal["auto"] = "auto"
    listener: Listener = silent
    crossfit: Crossfit | None = None

    @property
    def images(self) -> int:
        """Records of each of a view's files."""
        return len(self.dataset.splits.train)

    @cached_property
    def encodings(self) -> dict[str, Encoding]:
        """How the rows of each tap are written. Raises InputError for a tap that the teacher does not have."""
        classes = len(self.dataset.classes)
        module, side = self.teacher.module, self.teacher.contract.resolution
        return {
            tap: encoding_of(tap, classes if tap == LOGITS else tap_width(module, tap, classes, side))
            for tap in self.taps
        }

    @cached_property
    def _pace(self) -> Pace:
        """One for all view indices: it knows what it found at the first of them."""
        return Pace(thread_counts(self.threads, choose_device(self.device)), self.listener, work="labelling")

    def label(self, folder: Path, view: int, on_progress: Callable[[int], None]) -> None:
        """Make the files of view index `view` in `folder`, or go on with them. `on_progress` is told how many of its images
        are done. Raises InputError where the teacher's outputs are not one finite logit a class or no finite rows,
        UnsupportedError for a device that is not here."""
        growing = _Growing(folder, view, {tap: encoding.record.itemsize for tap, encoding in self.encodings.items()})
        on_progress(growing.done)
        if growing.done < self.images:
            device = choose_device(self.device)
            with self.on_device(device), own_threads():
                self._grow(growing, view, device, on_progress)

    @contextmanager
    def on_device(self, device: torch.device) -> Iterator[torch.device]:
        """A context in which its teachers are on `device`."""
        with ExitStack() as stack:
            for teacher in (self.teacher, *(self.crossfit.teachers if self.crossfit else ())):
                stack.enter_context(_on_device(teacher, device))
            yield device

    def live(self, view: int, positions: Indices, device: torch.device) -> Rows:
        """What the live teacher gives for images of the split in a view index, by tap, in `on_device`."""
        train, views = self.dataset.splits.train, self.views.at(view)
        batch = render_batch(self.dataset.images, train, views, positions, self.teacher.contract)
        return self._rows(batch, positions, device)

    def _grow(self, growing: _Growing, view: int, device: torch.device, on_progress: Callable[[int], None]) -> None:
        with growing:
            committed_at = time.monotonic()
            for positions, batch in self._rendered(self.views.at(view), growing.done):
                with self._pace.step():
                    rows = self._teach(batch, positions, view, device)
                growing.write(
                    {tap: self.encodings[tap].encode(rows[tap]).tobytes() for tap in self.taps}, len(positions)
                )
                if growing.done == self.images or time.monotonic() - committed_at >= self.commit_seconds:
                    growing.commit()
                    committed_at = time.monotonic()
                on_progress(growing.done)

    def _rendered(self, views: Views, start: int) -> Iterator[tuple[Indices, Pixels]]:
        """Batches from image `start` on, rendered in threads a few ahead: Pillow decodes and resizes outside the
        interpreter's lock."""

        def render(first: int) -> tuple[Indices, Pixels]:
            positions = np.arange(first, min(first + self.batch_size, self.images), dtype=np.int64)
            train = self.dataset.splits.train
            return positions, render_batch(self.dataset.images, train, views, positions, self.teacher.contract)

        pool = ThreadPoolExecutor(max(1, self.workers))
        waiting: deque[Future[tuple[Indices, Pixels]]] = deque()
        try:
            for first in range(start, self.images, self.batch_size):
                waiting.append(pool.submit(render, first))
                if len(waiting) > self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _teach(self, batch: Pixels, positions: Indices, view: int, device: torch.device) -> Rows:
        rows = self._rows(batch, positions, device)
        for tap in self.taps:
            self._require_sound(tap, rows[tap], positions, view)
        return rows

    def _require_sound(self, tap: str, rows: NDArray[np.float32], positions: Indices, view: int) -> None:
        width = self.encodings[tap].width
        if rows.shape != (len(positions), width):
            raise InputError(
                f"the teacher {self.teacher.name} gives {tap} of shape {list(rows.shape)} for {len(positions)} images, not "
                f"{[len(positions), width]}",
                fix="give it a head of one output a class, or let [teacher] fit train one",
            )
        # Logits may be of any size: their rows are shifted. Features are read as 16-bit floats.
        finite = (np.isfinite(rows) if tap == LOGITS else np.abs(rows) <= -LOWEST).all(axis=1)
        if not finite.all():
            beyond = "(NaN or infinite)" if tap == LOGITS else f"(or beyond {-LOWEST:,.0f})"
            raise InputError(
                f"the teacher {self.teacher.name} gives {tap} that are not finite {beyond}",
                problems=[
                    Problem(f"training image {image}, view {view}", f"{tap} are not finite {beyond}")
                    for image in self.dataset.splits.train[positions[~finite]].tolist()
                ],
                fix="check its weights and the mean and std it was trained with; a diverged fit needs a lower learning_rate"
                + ("" if self.autocast is None else '; what 16 bits cannot hold needs [train] mixed_precision = "off"'),
            )

    def _rows(self, batch: Pixels, positions: Indices, device: torch.device) -> Rows:
        classes = len(self.dataset.classes)
        if self.crossfit is None:
            return live_rows(self.teacher, self.taps, classes, batch, device, self.autocast)
        folds = self.crossfit.folds[positions]
        found: dict[int, Rows] = {}
        for fold in np.unique(folds).tolist():
            teacher = self.teacher if fold < 0 else self.crossfit.teachers[fold]
            found[fold] = live_rows(teacher, self.taps, classes, batch[folds == fold], device, self.autocast)
        joined: Rows = {}
        for tap in self.taps:
            joined[tap] = np.empty((len(positions), *next(iter(found.values()))[tap].shape[1:]), np.float32)
            for fold, given in found.items():
                joined[tap][folds == fold] = given[tap]
        return joined


@dataclass
class _Growing:
    """The files of a view index by tap, while records of these sizes (bytes) are added to all of them. The marker beside
    them says of how many images the records are safely on disk, and moves only after they have been synced, so that what a
    kill leaves behind it is cut off and made again. A context: the files are open in it."""

    folder: Path
    view: int
    record_bytes: dict[str, int]
    done: int = field(init=False)
    _streams: dict[str, BinaryIO] = field(default_factory=dict, init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    def __post_init__(self) -> None:
        try:
            done = int(self._marker.read_text())
            whole = all(self._path(tap).stat().st_size >= done * size for tap, size in self.record_bytes.items())
            self.done = done if whole else 0
        except (FileNotFoundError, ValueError):
            self.done = 0

    @property
    def _marker(self) -> Path:
        return self.folder / f"view-{self.view:04d}.images"

    def _path(self, tap: str) -> Path:
        return self.folder / part_name(tuple(self.record_bytes).index(tap), self.view)

    def __enter__(self) -> Self:
        for tap, size in self.record_bytes.items():
            path = self._path(tap)
            path.touch()
            stream = self._stack.enter_context(path.open("r+b"))
            stream.truncate(self.done * size)
            stream.seek(0, os.SEEK_END)
            self._streams[tap] = stream
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def write(self, records: dict[str, bytes], images: int) -> None:
        """Add the records of so many images."""
        for tap, stream in self._streams.items():
            stream.write(records[tap])
        self.done += images

    def commit(self) -> None:
        """Have all that was written on the disk, and say so."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
        write_atomic(self._marker, str(self.done))


def live_rows(
    teacher: Teacher,
    taps: Sequence[str],
    classes: int,
    batch: Pixels,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> Rows:
    """What the live teacher gives at `taps` for uint8 [B, 3, R, R], in one pass: of each float32 [B, width], logits as they
    are. `autocast` is the type of matrix products, None for float32 throughout."""
    with (
        torch.inference_mode(),
        torch.autocast(device.type, autocast, enabled=autocast is not None),
        ExitStack() as stack,
    ):
        kept = {tap: stack.enter_context(tapped(teacher.module, tap, classes)) for tap in taps}
        images = torch.from_numpy(batch).to(device).float().contiguous(memory_format=torch.channels_last)
        teacher.module(images)
        found = {tap: tensors[0].float() for tap, tensors in kept.items()}
        return {tap: (given if tap == LOGITS else as_rows(given)).cpu().numpy() for tap, given in found.items()}


@contextmanager
def _on_device(teacher: Teacher, device: torch.device) -> Iterator[None]:
    """The teacher's module on `device` in channels-last layout, and back on the CPU as it was afterwards."""
    module = teacher.module
    # torch's stubs lack the overload of `Module.to` that its documentation has.
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        module.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
