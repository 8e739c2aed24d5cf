"""The view store: augmented views with the teacher's outputs on them, computed once, shared by every candidate and build.

Stored are (view, output) pairs, not (image, output): that teacher and student see the same view is what makes
distillation work (FunMatch), and a few dozen stored views an image match as many fresh ones (dataset reinforcement,
https://arxiv.org/abs/2303.08983). One file a view index, of records of fixed size, memory-mapped.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import torch
from numpy.typing import NDArray

from edgedistill.config import AugmentationConfig
from edgedistill.data.augment import AUGMENTATION_VERSION
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Indices, Pixels
from edgedistill.data.views import VIEW_DTYPE, Views, draw_views, render_batch
from edgedistill.errors import InputError, Problem, UnsupportedError
from edgedistill.progress import Listener, StageAdvanced
from edgedistill.store import Store, stage_key, sync_folder, write_atomic
from edgedistill.teachers.teacher import Teacher

STAGE: Final = "views"
FORMAT_VERSION: Final = 1
LOWEST: Final = -65504.0
"""The most negative float16."""

_HEADER: Final = "store.json"
_CODE: Final = (
    "edgedistill.data.augment",
    "edgedistill.data.images",
    "edgedistill.data.preprocessing",
    "edgedistill.data.views",
    "edgedistill.teachers.cache",
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
        return np.memmap(self.folder / _file_name(view), _record_dtype(self.classes), mode="r", shape=(self.images,))


@dataclass(frozen=True)
class ViewStoreCheck:
    """Stored logits beside the live teacher's on `images` (view, image) pairs. `max_abs_error`: largest difference
    of any logit that is not clipped. `index_mismatches`: pairs whose top class differs, or whose partner is not in the
    split."""

    images: int
    max_abs_error: float
    index_mismatches: int


def view_store_key(teacher: Teacher, dataset: Dataset, augmentation: AugmentationConfig) -> str:
    """Hash of all that the store's content depends on: teacher and its contract, training images in order, augmentation,
    the code and the libraries that render and compute."""
    inputs = {
        "format": FORMAT_VERSION,
        "operations": AUGMENTATION_VERSION,
        "teacher": teacher.key,
        "contract": teacher.contract.model_dump(mode="json"),
        "data": dataset.fingerprint,
        "train": dataset.splits.train.tolist(),
        "augmentation": augmentation.model_dump(mode="json"),
    }
    return stage_key(inputs, code=_CODE, tools=_TOOLS)


def build_view_store(
    store: Store,
    teacher: Teacher,
    dataset: Dataset,
    augmentation: AugmentationConfig,
    listener: Listener,
    *,
    batch_size: int = 256,
    device: str | torch.device = "auto",
    workers: int = 1,
    commit_seconds: float = 2.0,
) -> ViewStore:
    """The view store of this teacher, data and augmentation: found in `store`, or made there.

    `device` is torch's name or `auto`; `workers` threads render ahead of the teacher. A killed run is taken up where it was
    last synced to disk, at most `commit_seconds` and one batch earlier. Raises InputError where the teacher's outputs are
    not one finite logit a class, UnsupportedError for a device that is not here.
    """
    maker = _Maker(teacher, dataset, augmentation, listener, batch_size, _resolve(device), workers, commit_seconds)
    key = view_store_key(teacher, dataset, augmentation)
    total = augmentation.views * len(dataset.splits.train)
    return ViewStore.open(store.stage(STAGE, key, maker.make, subject=teacher.name, total=total, resumable=True))


def check_view_store(view_store: ViewStore, teacher: Teacher, dataset: Dataset, images: int) -> ViewStoreCheck:
    """Render and compute `images` pairs again, spread evenly over all views, and compare with what is stored."""
    total = view_store.view_count * view_store.images
    chosen = np.unique(np.linspace(0, total - 1, min(images, total)).astype(np.int64))
    largest, mismatches = 0.0, 0
    for view in range(view_store.view_count):
        positions = chosen[chosen // view_store.images == view] % view_store.images
        if not len(positions):
            continue
        views, stored = view_store.views(view), view_store.logits(view)[positions].astype(np.float32)
        outside = views["mix_partner"][positions] >= view_store.images
        mismatches += int(outside.sum())
        positions, stored = positions[~outside], stored[~outside]
        batch = render_batch(dataset.images, dataset.splits.train, views, positions, teacher.contract)
        live = _shifted(_logits(teacher, batch, torch.device("cpu")))
        largest = max(largest, float(np.abs(live - stored)[live > LOWEST].max(initial=0)))
        mismatches += int((live.argmax(axis=1) != stored.argmax(axis=1)).sum())
    return ViewStoreCheck(len(chosen), largest, mismatches)


@dataclass(frozen=True)
class _Maker:
    """What fills the stage's folder: finished view files, then at most one that is under way with its progress marker."""

    teacher: Teacher
    dataset: Dataset
    augmentation: AugmentationConfig
    listener: Listener
    batch_size: int
    device: torch.device
    workers: int
    commit_seconds: float

    @property
    def images(self) -> int:
        return len(self.dataset.splits.train)

    @property
    def classes(self) -> int:
        return len(self.dataset.classes)

    def make(self, folder: Path) -> None:
        with _on_device(self.teacher, self.device):
            for view in range(self.augmentation.views):
                if not (folder / _file_name(view)).exists():
                    self._make_view(folder, view)
        for marker in folder.glob("*.images"):  # of a run killed between a view's rename and its marker's end
            marker.unlink()
        header = {
            "views": self.augmentation.views,
            "images": self.images,
            "classes": self.classes,
            "record_bytes": _record_dtype(self.classes).itemsize,
            "teacher": self.teacher.name,
            "teacher_key": self.teacher.key,
            "data": self.dataset.fingerprint,
            "augmentation": self.augmentation.model_dump(mode="json"),
        }
        write_atomic(folder / _HEADER, json.dumps(header, indent=1))

    def _make_view(self, folder: Path, view: int) -> None:
        """One view file. The marker says how many images are safely on disk, and moves only after they have been synced, so
        that what a kill leaves behind it is cut off and made again."""
        final = folder / _file_name(view)
        growing, marker = final.with_suffix(".growing"), final.with_suffix(".images")
        record = _record_dtype(self.classes)
        done = _committed(growing, marker, record.itemsize)
        views = draw_views(self.images, self.augmentation, view)
        self._advance(view, done)
        with growing.open("r+b" if done else "wb") as stream:
            stream.truncate(done * record.itemsize)
            stream.seek(0, os.SEEK_END)
            committed_at = time.monotonic()
            for positions, batch in self._rendered(views, done):
                records = np.empty(len(positions), record)
                records["view"] = views[positions]
                records["logits"] = self._teach(batch, positions, view)
                stream.write(records.tobytes())
                done += len(positions)
                if time.monotonic() - committed_at >= self.commit_seconds:
                    _commit(stream, marker, done)
                    committed_at = time.monotonic()
                self._advance(view, done)
            stream.flush()
            os.fsync(stream.fileno())
        growing.replace(final)
        sync_folder(folder)
        marker.unlink(missing_ok=True)

    def _advance(self, view: int, done: int) -> None:
        total = self.augmentation.views * self.images
        self.listener(StageAdvanced(STAGE, view * self.images + done, total))

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

    def _teach(self, batch: Pixels, positions: Indices, view: int) -> NDArray[np.float16]:
        logits = _logits(self.teacher, batch, self.device)
        if logits.shape != (len(positions), self.classes):
            raise InputError(
                f"the teacher {self.teacher.name} gives outputs of shape {list(logits.shape)} for {len(positions)} images "
                f"of {self.classes} classes",
                fix="give it a head of one output a class, or let [teacher] fit train one",
            )
        finite = np.isfinite(logits).all(axis=1)
        if not finite.all():
            problems = [
                Problem(f"training image {self.dataset.splits.train[position]}, view {view}", "logits are not finite")
                for position in positions[~finite].tolist()
            ]
            raise InputError(
                f"the teacher {self.teacher.name} gives logits that are not finite (NaN or infinite)",
                problems=problems,
                fix="check its weights and the mean and std it was trained with; a diverged fit needs a lower learning_rate",
            )
        return _shifted(logits).astype(np.float16)


def _logits(teacher: Teacher, batch: Pixels, device: torch.device) -> NDArray[np.float32]:
    """The live teacher on uint8 [B, 3, R, R]."""
    with torch.inference_mode():
        images = torch.from_numpy(batch).to(device).float().contiguous(memory_format=torch.channels_last)
        logits: NDArray[np.float32] = teacher.module(images).float().cpu().numpy()
    return logits


def _shifted(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The row's largest taken off, in double precision: the difference of two large logits must not overflow."""
    wide = logits.astype(np.float64)
    shifted: NDArray[np.float32] = np.maximum(wide - wide.max(axis=1, keepdims=True), LOWEST).astype(np.float32)
    return shifted


def _record_dtype(classes: int) -> np.dtype[np.void]:
    return np.dtype([("view", VIEW_DTYPE), ("logits", "<f2", (classes,))])


def _file_name(view: int) -> str:
    return f"view-{view:04d}.records"


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


def _resolve(device: str | torch.device) -> torch.device:
    """The device by its name; `auto` is CUDA, else Apple's GPU, else the CPU."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, here in usable.items() if here))
    chosen = torch.device(device)
    if not usable.get(chosen.type, False):
        raise UnsupportedError(f"torch finds no device {chosen} here", fix='use device = "auto" or "cpu"')
    return chosen


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
