"""One view index' file: the teacher's logits on that view of every training image, in records of fixed size.

Rendered in threads ahead of the teacher and synced every few seconds, so that a killed run is taken up where it was.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.store import sync_folder, write_atomic
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Indices, Pixels
from edgedistill.data.views import Views, render_batch
from edgedistill.distill.hardware import choose_device
from edgedistill.distill.stored.encoding import Encoding, encoding_of, shifted
from edgedistill.distill.stored.logits import file_name
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.teacher import Teacher


@dataclass(frozen=True)
class Labeller:
    """A teacher at the stored `views` of one data set. `device` is what `[train] device` names; `workers` threads render
    ahead of the teacher; what was done is synced every `commit_seconds`."""

    teacher: Teacher
    dataset: Dataset
    views: StoredViews
    batch_size: int = 256
    device: str = "auto"
    workers: int = 1
    commit_seconds: float = 2.0

    @property
    def images(self) -> int:
        """Records of a view's file."""
        return len(self.dataset.splits.train)

    @cached_property
    def encoding(self) -> Encoding:
        """How the logits are written."""
        return encoding_of(len(self.dataset.classes))

    def label(self, folder: Path, view: int, on_progress: Callable[[int], None]) -> None:
        """Make the file of view index `view` in `folder`, or go on with it. `on_progress` is told how many of its images are
        done. Raises InputError where the teacher's outputs are not one finite logit a class, UnsupportedError for a device
        that is not here."""
        final = folder / file_name(view)
        if not final.exists():
            device = choose_device(self.device)
            with _on_device(self.teacher, device):
                self._grow(final, view, device, on_progress)
        _marker(final).unlink(missing_ok=True)

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
                logits = self._teach(batch, positions, view, device)
                stream.write(self.encoding.encode(shifted(logits)).tobytes())
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
        logits = live_logits(self.teacher, batch, device)
        if logits.shape != (len(positions), self.encoding.classes):
            raise InputError(
                f"the teacher {self.teacher.name} gives outputs of shape {list(logits.shape)} for {len(positions)} images "
                f"of {self.encoding.classes} classes",
                fix="give it a head of one output a class, or let [teacher] fit train one",
            )
        finite = np.isfinite(logits).all(axis=1)
        if not finite.all():
            raise InputError(
                f"the teacher {self.teacher.name} gives logits that are not finite (NaN or infinite)",
                problems=[
                    Problem(f"training image {image}, view {view}", "logits are not finite")
                    for image in self.dataset.splits.train[positions[~finite]].tolist()
                ],
                fix="check its weights and the mean and std it was trained with; a diverged fit needs a lower learning_rate",
            )
        return logits


def live_logits(teacher: Teacher, batch: Pixels, device: torch.device) -> NDArray[np.float32]:
    """The live teacher on uint8 [B, 3, R, R]."""
    with torch.inference_mode():
        images = torch.from_numpy(batch).to(device).float().contiguous(memory_format=torch.channels_last)
        logits: NDArray[np.float32] = teacher.module(images).float().cpu().numpy()
    return logits


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
