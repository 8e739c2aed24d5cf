"""One view index' file: what the teacher gives at a tap for that view of every training image, in records of fixed size.

Rendered in threads ahead of the teacher and synced every few seconds, so that a killed run is taken up where it was.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import sync_folder, write_atomic
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Indices, Pixels
from edgedistill.data.views import Views, render_batch
from edgedistill.distill.hardware import choose_device
from edgedistill.distill.pace import Pace, own_threads, thread_counts
from edgedistill.distill.recipes.taps import as_rows, tap_width, tapped
from edgedistill.distill.stored.encoding import LOWEST, Encoding, encoding_of
from edgedistill.distill.stored.signals import file_name
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.teacher import Crossfit, Teacher
from edgedistill.documents.recipes import LOGITS


@dataclass(frozen=True)
class Labeller:
    """A teacher at the stored `views` of one data set, asked for what it gives at `tap`. `device` is what `[train] device`
    names, `autocast` the type of matrix products, None for float32 throughout; `workers` threads render ahead of the
    teacher; what was done is synced every `commit_seconds`. `threads` are torch's on the CPU; `listener` hears how many are
    chosen. With `crossfit` its teachers label their folds."""

    teacher: Teacher
    dataset: Dataset
    views: StoredViews
    tap: str = LOGITS
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
        """Records of a view's file."""
        return len(self.dataset.splits.train)

    @cached_property
    def encoding(self) -> Encoding:
        """How the rows are written. Raises InputError for a tap that the teacher does not have."""
        classes = len(self.dataset.classes)
        if self.tap == LOGITS:
            return encoding_of(LOGITS, classes)
        return encoding_of(
            self.tap, tap_width(self.teacher.module, self.tap, classes, self.teacher.contract.resolution)
        )

    @cached_property
    def _pace(self) -> Pace:
        """One for all view indices: it knows what it found at the first of them."""
        return Pace(thread_counts(self.threads, choose_device(self.device)), self.listener, work="labelling")

    def label(self, folder: Path, view: int, on_progress: Callable[[int], None]) -> None:
        """Make the file of view index `view` in `folder`, or go on with it. `on_progress` is told how many of its images are
        done. Raises InputError where the teacher's outputs are not one finite logit a class or no finite rows,
        UnsupportedError for a device that is not here."""
        final = folder / file_name(view)
        if not final.exists():
            device = choose_device(self.device)
            with self.on_device(device), own_threads():
                self._grow(final, view, device, on_progress)
        _marker(final).unlink(missing_ok=True)

    @contextmanager
    def on_device(self, device: torch.device) -> Iterator[torch.device]:
        """A context in which its teachers are on `device`."""
        with ExitStack() as stack:
            for teacher in (self.teacher, *(self.crossfit.teachers if self.crossfit else ())):
                stack.enter_context(_on_device(teacher, device))
            yield device

    def live(self, view: int, positions: Indices, device: torch.device) -> NDArray[np.float32]:
        """What the live teacher gives for images of the split in a view index, float32 [n, width], in `on_device`."""
        train, views = self.dataset.splits.train, self.views.at(view)
        batch = render_batch(self.dataset.images, train, views, positions, self.teacher.contract)
        return self._rows(batch, positions, device)

    def _grow(self, final: Path, view: int, device: torch.device, on_progress: Callable[[int], None]) -> None:
        """The marker says how many images are safely on disk, and moves only after they have been synced, so that what a
        kill leaves behind it is cut off and made again."""
        growing, marker = final.with_suffix(".growing"), _marker(final)
        record_bytes = self.encoding.record.itemsize
        done = _committed(growing, marker, record_bytes)
        views = self.views.at(view)
        on_progress(done)
        with growing.open("r+b" if done else "wb") as stream:
            stream.truncate(done * record_bytes)
            stream.seek(0, os.SEEK_END)
            committed_at = time.monotonic()
            for positions, batch in self._rendered(views, done):
                with self._pace.step():
                    rows = self._teach(batch, positions, view, device)
                stream.write(self.encoding.encode(rows).tobytes())
                done += len(positions)
                if time.monotonic() - committed_at >= self.commit_seconds:
                    _commit(stream, marker, done)
                    committed_at = time.monotonic()
                on_progress(done)
            stream.flush()
            os.fsync(stream.fileno())
        growing.replace(final)
        sync_folder(final.parent)

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

    def _teach(self, batch: Pixels, positions: Indices, view: int, device: torch.device) -> NDArray[np.float32]:
        rows = self._rows(batch, positions, device)
        if rows.shape != (len(positions), self.encoding.width):
            raise InputError(
                f"the teacher {self.teacher.name} gives outputs of shape {list(rows.shape)} for {len(positions)} images "
                f"of {self.encoding.width} classes",
                fix="give it a head of one output a class, or let [teacher] fit train one",
            )
        # Logits may be of any size: their rows are shifted. Features are read as 16-bit floats.
        finite = (np.isfinite(rows) if self.tap == LOGITS else np.abs(rows) <= -LOWEST).all(axis=1)
        if not finite.all():
            beyond = "(NaN or infinite)" if self.tap == LOGITS else f"(or beyond {-LOWEST:,.0f})"
            raise InputError(
                f"the teacher {self.teacher.name} gives {self.tap} that are not finite {beyond}",
                problems=[
                    Problem(f"training image {image}, view {view}", f"{self.tap} are not finite {beyond}")
                    for image in self.dataset.splits.train[positions[~finite]].tolist()
                ],
                fix="check its weights and the mean and std it was trained with; a diverged fit needs a lower learning_rate"
                + ("" if self.autocast is None else '; what 16 bits cannot hold needs [train] mixed_precision = "off"'),
            )
        return rows

    def _rows(self, batch: Pixels, positions: Indices, device: torch.device) -> NDArray[np.float32]:
        classes = len(self.dataset.classes)
        if self.crossfit is None:
            return live_rows(self.teacher, self.tap, classes, batch, device, self.autocast)
        folds = self.crossfit.folds[positions]
        found: dict[int, NDArray[np.float32]] = {}
        for fold in np.unique(folds).tolist():
            teacher = self.teacher if fold < 0 else self.crossfit.teachers[fold]
            found[fold] = live_rows(teacher, self.tap, classes, batch[folds == fold], device, self.autocast)
        rows = np.empty((len(positions), *next(iter(found.values())).shape[1:]), np.float32)
        for fold, given in found.items():
            rows[folds == fold] = given
        return rows


def live_rows(
    teacher: Teacher,
    tap: str,
    classes: int,
    batch: Pixels,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> NDArray[np.float32]:
    """What the live teacher gives at `tap` for uint8 [B, 3, R, R]: float32 [B, width], logits as they are. `autocast` is the
    type of matrix products, None for float32 throughout."""
    with (
        torch.inference_mode(),
        torch.autocast(device.type, autocast, enabled=autocast is not None),
        tapped(teacher.module, tap, classes) as kept,
    ):
        images = torch.from_numpy(batch).to(device).float().contiguous(memory_format=torch.channels_last)
        teacher.module(images)
        tensor = kept[0].float()
        rows: NDArray[np.float32] = (tensor if tap == LOGITS else as_rows(tensor)).cpu().numpy()
    return rows


def _marker(final: Path) -> Path:
    return final.with_suffix(".images")


def _commit(stream: BinaryIO, marker: Path, done: int) -> None:
    stream.flush()
    os.fsync(stream.fileno())
    write_atomic(marker, str(done))


def _committed(growing: Path, marker: Path, record_bytes: int) -> int:
    """Images of a half-made view file that are known to be whole."""
    try:
        done = int(marker.read_text())
        return done if growing.stat().st_size >= done * record_bytes else 0
    except (FileNotFoundError, ValueError):
        return 0


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
